// Package story does with a cluster what its operator does – back up, lose, restore – through the velero command line, and
// reports what came of it. The demo prints the reports, the end-to-end tests check them.
package story

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A Site is a cluster with Velero.
type Site struct {
	client.Client
	// Velero runs the velero command line against the cluster.
	Velero func(ctx context.Context, args ...string) (string, error)
	// Namespace is the one Velero runs in.
	Namespace string
}

// NewSite returns the site that config points at.
func NewSite(config *rest.Config, namespace string, velero func(ctx context.Context, args ...string) (string, error)) (*Site, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, velerov1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	return &Site{Client: c, Velero: velero, Namespace: namespace}, nil
}

// A Report is what one backup or restore did.
type Report struct {
	Name     string
	Phase    string
	Errors   int
	Warnings int
	Took     time.Duration
	Log      []Line
}

// A BackupReport is a Report, and what is in the backup.
type BackupReport struct {
	Report
	HooksAttempted, HooksFailed int
	Items                       []*unstructured.Unstructured
}

// Backup runs "velero backup create NAME --wait" with further arguments. A backup that Velero took and that failed is no
// error here: the report says so.
func (s *Site) Backup(ctx context.Context, name string, args ...string) (*BackupReport, error) {
	started := time.Now()
	if _, err := s.Velero(ctx, append([]string{"backup", "create", name, "--wait"}, args...)...); err != nil {
		return nil, err
	}
	report, err := s.BackupReport(ctx, name)
	if err == nil {
		report.Took = time.Since(started)
	}
	return report, err
}

// locations tells what is wrong with the backup locations.
func (s *Site) locations(ctx context.Context) (trouble string) {
	var locations velerov1.BackupStorageLocationList
	if err := s.List(ctx, &locations, client.InNamespace(s.Namespace)); err != nil {
		return "; " + err.Error()
	}
	for _, location := range locations.Items {
		if location.Status.Message != "" {
			trouble += fmt.Sprintf("; %s: %s", location.Name, location.Status.Message)
		}
	}
	return trouble
}

// BackupReport reports about a backup that has ended.
func (s *Site) BackupReport(ctx context.Context, name string) (*BackupReport, error) {
	var backup velerov1.Backup
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, &backup); err != nil {
		return nil, fmt.Errorf("reading Backup %s: %w", name, err)
	}
	if backup.Status.Phase == velerov1.BackupPhaseFailedValidation {
		return nil, fmt.Errorf("backup %s is not valid: %s%s", name, strings.Join(backup.Status.ValidationErrors, "; "), s.locations(ctx))
	}
	report := &BackupReport{Report: Report{
		Name: name, Phase: string(backup.Status.Phase), Errors: backup.Status.Errors, Warnings: backup.Status.Warnings,
	}}
	if backup.Status.StartTimestamp != nil && backup.Status.CompletionTimestamp != nil {
		report.Took = backup.Status.CompletionTimestamp.Sub(backup.Status.StartTimestamp.Time)
	}
	if hooks := backup.Status.HookStatus; hooks != nil {
		report.HooksAttempted, report.HooksFailed = hooks.HooksAttempted, hooks.HooksFailed
	}
	var err error
	if report.Log, err = s.log(ctx, "backup", name); err != nil {
		return nil, err
	}
	report.Items, err = s.contents(ctx, name)
	return report, err
}

// Restore runs "velero restore create NAME --from-backup BACKUP --wait" with further arguments.
func (s *Site) Restore(ctx context.Context, name, backup string, args ...string) (*Report, error) {
	started := time.Now()
	if _, err := s.Velero(ctx, append([]string{"restore", "create", name, "--from-backup", backup, "--wait"}, args...)...); err != nil {
		return nil, err
	}
	var restore velerov1.Restore
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, &restore); err != nil {
		return nil, fmt.Errorf("reading Restore %s: %w", name, err)
	}
	log, err := s.log(ctx, "restore", name)
	return &Report{
		Name: name, Phase: string(restore.Status.Phase), Errors: restore.Status.Errors, Warnings: restore.Status.Warnings,
		Took: time.Since(started), Log: log,
	}, err
}

// LoseNamespace deletes a namespace, and the volumes of its claims that outlive them: the disaster.
func (s *Site) LoseNamespace(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{}
	namespace.Name = name
	if err := s.Delete(ctx, namespace); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting namespace %s: %w", name, err)
	}
	if err := s.deleteSlowOnes(ctx, name); err != nil {
		return err
	}
	if err := await(ctx, 2*time.Minute, func() (bool, error) {
		err := s.Get(ctx, client.ObjectKeyFromObject(namespace), namespace)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}); err != nil {
		return fmt.Errorf("waiting for namespace %s to go: %w", name, err)
	}
	var volumes corev1.PersistentVolumeList
	if err := s.List(ctx, &volumes); err != nil {
		return fmt.Errorf("listing PersistentVolumes: %w", err)
	}
	for i := range volumes.Items {
		volume := &volumes.Items[i]
		if claim := volume.Spec.ClaimRef; claim == nil || claim.Namespace != name {
			continue
		}
		if err := s.Delete(ctx, volume); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting PersistentVolume %s: %w", volume.Name, err)
		}
	}
	return nil
}

// deleteSlowOnes deletes what has a finalizer in a namespace that is going. The namespace controller looks after 5 s for the first
// time, and where it then finds a finalizer again only 8 s later (Kubernetes v1.36, pkg/controller/namespace).
func (s *Site) deleteSlowOnes(ctx context.Context, namespace string) error {
	snapshot := &unstructured.Unstructured{}
	snapshot.SetAPIVersion("snapshot.storage.k8s.io/v1")
	snapshot.SetKind("VolumeSnapshot")
	for _, kind := range []client.Object{&corev1.Pod{}, &corev1.PersistentVolumeClaim{}, snapshot} {
		err := s.DeleteAllOf(ctx, kind, client.InNamespace(namespace))
		if err != nil && !meta.IsNoMatchError(err) { // not every cluster has snapshots
			return fmt.Errorf("deleting what is in namespace %s: %w", namespace, err)
		}
	}
	return nil
}

// Find returns the objects of one kind in a namespace, by name. A kind the cluster does not know is an error.
func (s *Site) Find(ctx context.Context, apiVersion, kind, namespace string) (map[string]*unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.FromAPIVersionAndKind(apiVersion, kind+"List"))
	if err := s.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing %s in namespace %s: %w", kind, namespace, err)
	}
	found := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		found[list.Items[i].GetName()] = &list.Items[i]
	}
	return found, nil
}

// await asks every 100 ms until the answer is yes, an error, or the time is over.
func await(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if yes, err := done(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not after %s: %w", strings.TrimSuffix(limit.String(), "0s"), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// AwaitReady waits until a VirtualMachine says that it is ready.
func (s *Site) AwaitReady(ctx context.Context, namespace, name string, limit time.Duration) error {
	vm := &unstructured.Unstructured{}
	vm.SetAPIVersion("kubevirt.io/v1")
	vm.SetKind("VirtualMachine")
	if err := await(ctx, limit, func() (bool, error) {
		err := s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, vm)
		ready, _, _ := unstructured.NestedBool(vm.Object, "status", "ready")
		return ready, client.IgnoreNotFound(err)
	}); err != nil {
		status, _, _ := unstructured.NestedString(vm.Object, "status", "printableStatus")
		return fmt.Errorf("waiting for VirtualMachine %s/%s, which is %q: %w", namespace, name, status, err)
	}
	return nil
}

// AwaitScheduled waits for the first backup of a schedule to end and returns its name.
func (s *Site) AwaitScheduled(ctx context.Context, schedule string, limit time.Duration) (string, error) {
	name := ""
	err := await(ctx, limit, func() (bool, error) {
		var backups velerov1.BackupList
		err := s.List(ctx, &backups, client.InNamespace(s.Namespace), client.MatchingLabels{velerov1.ScheduleNameLabel: schedule})
		if err != nil || len(backups.Items) == 0 {
			return false, err
		}
		name = backups.Items[0].Name
		return backups.Items[0].Status.CompletionTimestamp != nil, nil
	})
	if err != nil {
		return "", fmt.Errorf("waiting for a backup of schedule %s: %w", schedule, err)
	}
	return name, nil
}

// Backups returns how many backups the environment variable BACKUPS asks a story for, and usual when it is not set.
func Backups(usual int) (int, error) {
	text := os.Getenv("BACKUPS")
	if text == "" {
		return usual, nil
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 {
		return 0, fmt.Errorf("BACKUPS is not a number of backups: %q", text)
	}
	return count, nil
}
