package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// An authority issues the certificates of one cluster into a folder.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// An identity is a certificate for both ends of a connection: as a client it is CN=name, O=groups.
type identity struct {
	cert, key       string // files
	certPEM, keyPEM []byte
}

// newAuthority creates a certificate authority and its file ca.crt.
func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate authority: %w", err)
	}
	ca, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "test-cluster"}, key)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate authority: %w", err)
	}
	bundle, err := cert.EncodeCertificates(ca)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate authority: %w", err)
	}
	a := &authority{dir: dir, cert: ca, key: key, pem: bundle}
	if err := cert.WriteCert(a.bundle(), bundle); err != nil {
		return nil, fmt.Errorf("writing the authority's certificate: %w", err)
	}
	return a, nil
}

// bundle is the file of the authority's own certificate.
func (a *authority) bundle() string { return filepath.Join(a.dir, "ca.crt") }

// issue creates a certificate and its files. Every certificate is also good for a server on loopback.
func (a *authority) issue(name string, groups ...string) (identity, error) {
	id, err := a.sign(name, groups)
	if err != nil {
		return identity{}, fmt.Errorf("issuing the certificate of %s: %w", name, err)
	}
	if err := cert.WriteCert(id.cert, id.certPEM); err != nil {
		return identity{}, fmt.Errorf("writing the certificate of %s: %w", name, err)
	}
	if err := keyutil.WriteKey(id.key, id.keyPEM); err != nil {
		return identity{}, fmt.Errorf("writing the key of %s: %w", name, err)
	}
	return id, nil
}

func (a *authority) sign(name string, groups []string) (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return identity{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		DNSNames:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(ServiceAddress), net.ParseIP(MachineAddress)},
		NotBefore:    a.cert.NotBefore,
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return identity{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return identity{}, err
	}
	id := identity{cert: filepath.Join(a.dir, name+".crt"), key: filepath.Join(a.dir, name+".key")}
	if id.certPEM, err = cert.EncodeCertificates(leaf); err != nil {
		return identity{}, err
	}
	id.keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key)
	return id, err
}

// tls returns the settings of a connection's end that shows this identity and trusts this authority's others.
func (a *authority) tls(id identity) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(id.certPEM, id.keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading a key pair: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// newKey creates a private key's file.
func newKey(path string) error {
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err == nil {
		err = os.WriteFile(path, key, 0o600)
	}
	if err != nil {
		return fmt.Errorf("creating key %s: %w", filepath.Base(path), err)
	}
	return nil
}
