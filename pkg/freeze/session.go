package freeze

import (
	"context"
	"io"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A session is virsh in a launcher's container, waiting for the line by which it asks the guest agent whether the guest is frozen. It is started
// before the guest is frozen: to start it takes longer than to ask. When it ends, for whatever reason, the launcher thaws the guest.
type session struct {
	instance, launcher kubevirt.ID
	thaw               []string
	line               string
	stdin              *io.PipeWriter
	end                context.CancelFunc
	ended              chan struct{} // closed when the command has ended, with what it printed and its error
	printed            string
	err                error
}

// startSession starts virsh in the launcher of an instance, and thaw behind it.
func startSession(ctx context.Context, reader Reader, instance, launcher kubevirt.ID, thaw []string) *session {
	ctx, end := context.WithCancel(ctx)
	input, stdin := io.Pipe()
	command, line := consistency.AskGuest(instance.Namespace, instance.Name, thaw)
	s := &session{instance: instance, launcher: launcher, thaw: thaw, line: line, stdin: stdin, end: end, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.printed, s.err = reader.Exec(ctx, launcher, computeContainer, command, input)
		input.CloseWithError(io.ErrClosedPipe)
	}()
	return s
}

// computeContainer is where virt-launcher runs (KubeVirt 1.9.0, pkg/virt-controller/services/template.go).
const computeContainer = "compute"

// An answer is what came of asking and thawing a guest.
type answer struct {
	frozen    bool
	notAsked  error // why the guest did not answer
	notThawed error // why it may still be frozen
}

// ask sends the line, reads the answer and thaws the guest. It ends the session.
func (s *session) ask(ctx context.Context) answer {
	defer s.end()
	go func() {
		_, err := io.WriteString(s.stdin, s.line)
		s.stdin.CloseWithError(err) // a command that did not read the line has ended, and says why
	}()
	select {
	case <-s.ended:
	case <-ctx.Done():
		return answer{notAsked: ctx.Err(), notThawed: ctx.Err()}
	}
	frozen, err := consistency.SaysFrozen(s.printed)
	if err != nil && s.err != nil {
		err = s.err
	}
	return answer{frozen: frozen, notAsked: err, notThawed: s.err}
}

// askLimit is for how long the guest is waited for, which stays frozen meanwhile. The answer takes 0.1 s at most, but where a node or a launcher
// hangs, an exec does not end by itself.
const askLimit = 10 * time.Second

// askAndThaw asks the guest whether it is frozen and thaws it: in a new session when the one that waited has ended. Then the guest is not frozen any more, or
// never was, and says so.
func askAndThaw(ctx context.Context, reader Reader, s *session) answer {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	select {
	case <-s.ended:
		s = startSession(ctx, reader, s.instance, s.launcher, s.thaw)
	default:
	}
	return s.ask(ctx)
}
