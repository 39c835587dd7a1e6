package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// sbom returns the bill of materials of a binary, as SPDX 2.3: every module that is linked into it, with its version and licence.
func (r release) sbom(b binary) ([]byte, error) {
	sum := sha256.Sum256(b.content)
	name := fmt.Sprintf("%s-%s-%s", program, b.os, b.arch)
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name + " " + r.Version,
		// It must be unique, not reachable (SPDX 2.3, 6.5); the binary's sum is both that and the same for the same binary.
		DocumentNamespace: "https://spdx.org/spdxdocs/" + name + "-" + hex.EncodeToString(sum[:]),
		CreationInfo: &spdx.CreationInfo{
			Created: r.Created.Format(time.RFC3339), Creators: []common.Creator{{CreatorType: "Tool", Creator: program + "-image"}},
		},
	}
	for n, m := range b.modules {
		p := packageOf(m)
		if n == 0 {
			p.PackageVersion, p.PackageFileName, p.PrimaryPackagePurpose = r.Version, "/"+program, "APPLICATION"
			p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(sum[:])}}
			p.PackageExternalReferences = nil
			doc.Relationships = append(doc.Relationships, relation(doc.SPDXIdentifier, common.TypeRelationshipDescribe, p))
		} else {
			doc.Relationships = append(doc.Relationships, relation(doc.Packages[0].PackageSPDXIdentifier, common.TypeRelationshipContains, p))
		}
		doc.Packages = append(doc.Packages, p)
	}
	var out bytes.Buffer
	err := json.Write(doc, &out, json.Indent(" "))
	return out.Bytes(), err
}

// packageOf says what is known of a module.
func packageOf(m module) *spdx.Package {
	const none = "NOASSERTION"
	declared := none
	for _, l := range m.licences {
		if l.id != "" && !strings.Contains(l.path, "/") { // that of the whole module
			declared = l.id
			break
		}
	}
	return &spdx.Package{
		PackageName: m.path, PackageSPDXIdentifier: identifier(m), PackageVersion: m.version, PackageDownloadLocation: none,
		IsFilesAnalyzedTagPresent: true, PackageLicenseConcluded: none, PackageLicenseDeclared: declared, PackageCopyrightText: none,
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: "pkg:golang/" + m.path + "@" + m.version,
		}},
	}
}

// notInIdentifiers is what an SPDX identifier must not contain (SPDX 2.3, 3.2).
var notInIdentifiers = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

func identifier(m module) common.ElementID {
	return common.ElementID("Package-" + notInIdentifiers.ReplaceAllString(m.path, "-"))
}

func relation(from common.ElementID, kind string, to *spdx.Package) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to.PackageSPDXIdentifier)), Relationship: kind,
	}
}
