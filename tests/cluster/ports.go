package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken below the range from which the kernel picks the local ports of outgoing connections: one of those
// could take a port between the probe and the start of the component that is to listen on it.
const (
	firstPort = 20000
	lastPort  = 32767
)

// ports remembers what this program handed out, because a component listens only some time after its port was chosen.
var ports = struct {
	sync.Mutex
	taken map[int]bool
}{taken: map[int]bool{}}

// freePort returns a loopback port that nobody listens on.
func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		// Programs side by side do not know each other's choices: random ones hardly ever meet.
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if ports.taken[port] {
			continue
		}
		listener, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("probing port %d: %w", port, err)
		}
		ports.taken[port] = true
		return port, nil
	}
	return 0, errors.New("finding a free port: none of 1000 tried was free")
}

// releasePort makes a port available again to this program.
func releasePort(port int) {
	ports.Lock()
	defer ports.Unlock()
	delete(ports.taken, port)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
