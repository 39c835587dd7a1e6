package freeze

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// hanging is a launcher that never answers.
type hanging struct{ Reader }

func (hanging) Exec(ctx context.Context, _ kubevirt.ID, _ string, _ []string, _ io.Reader) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// TestAGuestIsNotKeptFrozenByALauncherThatHangs: its guest stays frozen for as long as the question takes.
func TestAGuestIsNotKeptFrozenByALauncherThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		got := askAndThaw(t.Context(), hanging{}, startSession(t.Context(), hanging{}, kubevirt.ID{}, kubevirt.ID{}, nil))
		if got.frozen || !errors.Is(got.notAsked, context.DeadlineExceeded) || got.notThawed == nil || time.Since(begin) != askLimit {
			t.Errorf("after %s: %+v", time.Since(begin), got)
		}
	})
}
