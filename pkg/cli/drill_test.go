package cli

import (
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTheLastBackupOfASchedule(t *testing.T) {
	backup := func(name string, phase velerov1.BackupPhase, hour int) velerov1.Backup {
		var b velerov1.Backup
		b.Name, b.Status.Phase = name, phase
		if hour > 0 {
			b.Status.StartTimestamp = &metav1.Time{Time: time.Date(2026, 11, 24, hour, 0, 0, 0, time.UTC)}
		}
		return b
	}
	backups := []velerov1.Backup{
		backup("early", velerov1.BackupPhaseCompleted, 1), backup("late", velerov1.BackupPhasePartiallyFailed, 3), backup("middle", velerov1.BackupPhaseCompleted, 2),
		backup("failed", velerov1.BackupPhaseFailed, 4), backup("running", velerov1.BackupPhaseInProgress, 5), backup("new", "", 0),
	}
	if name, found := lastOf(backups); !found || name != "late" {
		t.Errorf("the last is %q, %v", name, found)
	}
	if name, found := lastOf(backups[3:]); found {
		t.Errorf("%q can be restored", name)
	}
}
