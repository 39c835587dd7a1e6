package actions

import (
	"context"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Claims is a BackupItemAction for PersistentVolumeClaims: it takes their snapshots if the backup's volume policy says so, and may leave their data to Velero's data
// mover. Velero has called its own CSI action before: it starts its own process first (Velero 1.18.1, pkg/plugin/clientmgmt/process/registry.go).
type Claims struct{ run *backup.Run }

// NewClaims returns the action. Without ItemBlocks a PVC leads to nothing new and has no snapshot.
func NewClaims(run *backup.Run) *Claims { return &Claims{run} }

// Name is required by Velero and never called (Velero 1.18.1, pkg/plugin/velero/backupitemaction/v2).
func (c *Claims) Name() string { return "" }

// AppliesTo tells Velero which items to call Execute for.
func (c *Claims) AppliesTo() (velero.ResourceSelector, error) {
	return ifItemBlocks(c.run, resources(kubevirt.PersistentVolumeClaims)), nil
}

// Execute returns the edited claim, what is to be backed up with it, and what Velero is to ask about until the claim's data has been moved.
func (c *Claims) Execute(u runtime.Unstructured, of *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, string, []velero.ResourceIdentifier, error) {
	id, obj, err := decode(u)
	if err != nil {
		return nil, nil, "", nil, err
	}
	answer, err := c.run.BackUpClaim(context.Background(), id, obj, of)
	return u, toVelero(answer.AdditionalItems), answer.Operation, toVelero(answer.Update), err
}

// Progress tells Velero how far the data mover is.
func (c *Claims) Progress(operation string, of *velerov1.Backup) (velero.OperationProgress, error) {
	return c.run.Progress(context.Background(), operation, of)
}

// Cancel stops the data mover.
func (c *Claims) Cancel(operation string, of *velerov1.Backup) error {
	return c.run.Cancel(context.Background(), operation, of)
}
