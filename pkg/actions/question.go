package actions

import (
	"context"
	"io"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A question is what a guest is going to be asked: whether it is frozen. The command that asks waits in the launcher for its line, started
// before the guest is frozen: to start it takes longer than the answer.
type question struct {
	instance, launcher kubevirt.ID
	line               string
	stdin              *io.PipeWriter
	end                context.CancelFunc
	over               chan struct{} // closed when the command has ended, with its text and error
	text               string
	err                error
}

// prepare starts the command that is to ask the guest of an instance.
func prepare(ctx context.Context, reader Reader, instance, launcher kubevirt.ID) *question {
	ctx, end := context.WithCancel(ctx)
	hear, stdin := io.Pipe()
	command, line := consistency.AskGuest(instance.Namespace, instance.Name)
	q := &question{instance: instance, launcher: launcher, line: line, stdin: stdin, end: end, over: make(chan struct{})}
	go func() {
		defer close(q.over)
		q.text, q.err = reader.Exec(ctx, launcher, "compute", command, hear)
		hear.CloseWithError(io.ErrClosedPipe)
	}()
	return q
}

// ask sends the line and reads the answer.
func (q *question) ask(ctx context.Context) (bool, error) {
	defer q.end()
	go func() {
		_, err := io.WriteString(q.stdin, q.line)
		q.stdin.CloseWithError(err) // a command that did not hear the line has ended, and says why
	}()
	select {
	case <-q.over:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if q.err != nil {
		return false, q.err
	}
	return consistency.SaysFrozen(q.text)
}

// askLimit is for how long the guest is waited for, which stays frozen meanwhile. It takes 0.1 s at most, but an exec has no end of its own
// where a node or a launcher hangs.
const askLimit = 10 * time.Second

// isFrozen asks the guest whether it is frozen: once more when the command that waited has ended before.
func isFrozen(ctx context.Context, reader Reader, q *question) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	frozen, err := q.ask(ctx)
	if err != nil {
		return prepare(ctx, reader, q.instance, q.launcher).ask(ctx)
	}
	return frozen, nil
}
