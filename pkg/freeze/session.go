package freeze

import (
	"context"
	"io"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A session is virsh in a launcher's container, waiting for the line by which it asks the guest agent whether the guest is frozen. It is started
// before the guest is frozen: to start it takes longer than to ask.
type session struct {
	instance, launcher kubevirt.ID
	line               string
	stdin              *io.PipeWriter
	end                context.CancelFunc
	ended              chan struct{} // closed when the command has ended, with what it printed and its error
	printed            string
	err                error
}

// startSession starts virsh in the launcher of an instance.
func startSession(ctx context.Context, reader Reader, instance, launcher kubevirt.ID) *session {
	ctx, end := context.WithCancel(ctx)
	input, stdin := io.Pipe()
	command, line := consistency.AskGuest(instance.Namespace, instance.Name)
	s := &session{instance: instance, launcher: launcher, line: line, stdin: stdin, end: end, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.printed, s.err = reader.Exec(ctx, launcher, "compute", command, input)
		input.CloseWithError(io.ErrClosedPipe)
	}()
	return s
}

// ask sends the line and reads the answer. It ends the session.
func (s *session) ask(ctx context.Context) (frozen bool, err error) {
	defer s.end()
	go func() {
		_, err := io.WriteString(s.stdin, s.line)
		s.stdin.CloseWithError(err) // a command that did not read the line has ended, and says why
	}()
	select {
	case <-s.ended:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if s.err != nil {
		return false, s.err
	}
	return consistency.SaysFrozen(s.printed)
}

// askLimit is for how long the guest is waited for, which stays frozen meanwhile. The answer takes 0.1 s at most, but where a node or a launcher
// hangs, an exec does not end by itself.
const askLimit = 10 * time.Second

// isFrozen asks the guest whether it is frozen: in a new session when the one that waited has ended.
func isFrozen(ctx context.Context, reader Reader, s *session) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	frozen, err := s.ask(ctx)
	if err != nil {
		return startSession(ctx, reader, s.instance, s.launcher).ask(ctx)
	}
	return frozen, nil
}
