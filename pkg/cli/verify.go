package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/cmd/util/cacert"
	"github.com/vmware-tanzu/velero/pkg/cmd/util/downloadrequest"
	"k8s.io/apimachinery/pkg/labels"

	"velero-plugin-for-kubevirt/pkg/cluster"
)

type verifyOptions struct {
	connection
	output   *format
	selector string
	velero   *string
	file     string
	changes  bool
	against  bool
	all      bool
	download struct {
		timeout  time.Duration
		insecure bool
		cacert   string
	}
}

func newVerify() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify BACKUP",
		Short: "Tell whether a backup has everything that its VMs need",
		Long: `Tell of every VM of a backup how consistent its disks are with each other, how each disk is in the backup, what the VM needs and
the backup has not, and what this version would do to it when it is restored.

The backup is read through Velero, as "velero backup download" reads it, or from a file that this command wrote (-f NAME-data.tar.gz).
It may be of any version of this plugin, of another plugin, or of none: then nobody has said how consistent its disks are.
With --against-cluster it is compared with the cluster, into which it is to be restored.

Exit code: 0 when all is good, 1 when a VM is not consistent, or something is missing in the backup or in the cluster, 2 when that
could not be found out.`,
		Example: `  velero-plugin-for-kubevirt verify nightly
  velero-plugin-for-kubevirt verify nightly --against-cluster --changes
  velero-plugin-for-kubevirt verify -f nightly-data.tar.gz -n shop -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	// As Velero has them. The second is about the object store here, not about the API server as kubectl's is.
	flags.DurationVar(&o.download.timeout, "timeout", time.Minute, "how long to wait for the download")
	flags.BoolVar(&o.download.insecure, "insecure-skip-tls-verify", false, "do not check the object store's TLS certificate")
	flags.StringVar(&o.download.cacert, "cacert", "", "certificates to check the object store with (default: those of the backup location)")
	o.addTo(flags)
	o.output = formatFlag(flags, "table", "wide", "json", "yaml", "name")
	o.velero = veleroNamespaceFlag(flags)
	flags.StringVarP(&o.file, "filename", "f", "", "read this backup file; - for standard input")
	flags.StringVarP(&o.selector, "selector", "l", "", "only VMs with these labels, such as app=web")
	flags.BoolVar(&o.changes, "changes", false, "list what a restore would do to each object")
	flags.BoolVar(&o.against, "against-cluster", false, "tell what the cluster lacks for a restore of the backup")
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "the VMs of all namespaces (the default without --namespace)")
	cmd.MarkFlagsMutuallyExclusive("all-namespaces", "namespace")
	return cmd
}

func (o *verifyOptions) run(cmd *cobra.Command, args []string) error {
	if (len(args) == 1) == (o.file != "") {
		return errors.New("want the name of a backup, or a backup file with -f")
	}
	selector, err := labels.Parse(o.selector)
	if err != nil {
		return fmt.Errorf("--selector: %w", err)
	}
	progress := newProgress(cmd.ErrOrStderr())
	v, err := o.gather(cmd, args, progress)
	if err == nil {
		progress.say("looking at the VMs")
		v.namespace, v.selector = o.givenNamespace(), selector
		err = v.look(cmd.Context())
	}
	progress.done()
	if err == nil {
		err = cmd.Context().Err()
	}
	if err != nil {
		return err
	}
	report := v.report()
	if err := report.print(cmd.OutOrStdout(), o.output.value, o.changes); err != nil {
		return err
	}
	return report.err()
}

// gather reads the backup, and prepares what the cluster is asked.
func (o *verifyOptions) gather(cmd *cobra.Command, args []string, progress *progress) (*verification, error) {
	v := &verification{backup: &velerov1.Backup{}}
	v.backup.Namespace = *o.velero
	if o.file != "" {
		contents, err := readBackupFile(o.file, cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", o.file, err)
		}
		v.contents = contents
	}
	if o.file != "" && !o.against {
		return v, nil
	}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 300 // kubectl's
	if o.against {
		if v.target, err = cluster.NewLive(config); err != nil {
			return nil, err
		}
	}
	if o.file != "" {
		return v, nil
	}
	velero, err := newVeleroClient(config, *o.velero)
	if err != nil {
		return nil, err
	}
	progress.say("downloading backup %s", args[0])
	return v, o.fetch(cmd.Context(), velero, args[0], v)
}

func readBackupFile(path string, stdin io.Reader) (cluster.Memory, error) {
	if path == "-" {
		return cluster.ReadBackup(stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return cluster.ReadBackup(file)
}

// fetch reads a backup through Velero.
func (o *verifyOptions) fetch(ctx context.Context, velero *veleroClient, name string, v *verification) error {
	if err := velero.read(ctx, "Backup", name, v.backup); err != nil {
		return err
	}
	if err := canBeRead(v.backup); err != nil {
		return err
	}
	certificates, err := cacert.GetCACertFromBackup(ctx, velero, velero.namespace, v.backup)
	if err != nil {
		return fmt.Errorf("reading the certificates of the location of Backup %s/%s: %w", velero.namespace, name, err)
	}
	get := func(kind velerov1.DownloadTargetKind, read func(io.Reader) error) error {
		reader, writer := io.Pipe()
		go func() {
			d := o.download
			writer.CloseWithError(downloadrequest.StreamWithBSLCACert(ctx, velero, velero.namespace, name, kind, writer, d.timeout, d.insecure, d.cacert, certificates))
		}()
		defer func() { _ = reader.Close() }() // ends a download that is not read to its end
		if err := read(reader); err != nil {
			return fmt.Errorf("reading the %s of Backup %s/%s through Velero: %w", kind, velero.namespace, name, err)
		}
		return nil
	}
	err = get(velerov1.DownloadTargetKindBackupContents, func(r io.Reader) (err error) {
		v.contents, err = cluster.ReadBackup(r)
		return err
	})
	if err != nil {
		return err
	}
	err = get(velerov1.DownloadTargetKindBackupVolumeInfos, func(r io.Reader) error { return json.NewDecoder(r).Decode(&v.volumes) })
	if errors.Is(err, downloadrequest.ErrNotFound) { // Velero before 1.13 wrote none
		return nil
	}
	return err
}

// canBeRead tells that Velero has written a backup to its end.
func canBeRead(b *velerov1.Backup) error {
	switch b.Status.Phase {
	case velerov1.BackupPhaseCompleted, velerov1.BackupPhasePartiallyFailed:
		return nil
	case velerov1.BackupPhaseFailed, velerov1.BackupPhaseFailedValidation:
		reason := strings.Join(append([]string{b.Status.FailureReason}, b.Status.ValidationErrors...), " ")
		return fmt.Errorf("the phase of Backup %s/%s is %s, so there is nothing to restore: %s: see \"velero backup logs %s\"", b.Namespace, b.Name, b.Status.Phase, strings.TrimSpace(reason), b.Name)
	case velerov1.BackupPhaseDeleting:
		return fmt.Errorf("the phase of Backup %s/%s is Deleting: there is nothing to restore", b.Namespace, b.Name)
	}
	return fmt.Errorf("the phase of Backup %s/%s is %q: wait until it is Completed", b.Namespace, b.Name, b.Status.Phase)
}
