//go:build e2e

package e2e

import (
	"testing"
)

func TestAStoppedVMComesBackWithItsDisk(t *testing.T) {
	w := anywhere(t)
	w.create(t, "nap", "stopped.yaml")
	w.backUpLoseRestore(t, "nap", "--include-namespaces", "nap")
}

func TestARunningVMComesBackWithItsClaim(t *testing.T) {
	w := anywhere(t)
	w.create(t, "town", "claim.yaml")
	w.backUpLoseRestore(t, "town", "--include-namespaces", "town")
}

func TestAVMInstanceOfItsOwnComesBackWithItsDisk(t *testing.T) {
	w := anywhere(t)
	w.create(t, "hut", "instance.yaml")
	w.backUpLoseRestore(t, "hut", "--include-namespaces", "hut")
}

func TestAReplicaSetRunsItsReplicasOnce(t *testing.T) {
	w := anywhere(t)
	w.create(t, "meadow", "replicaset.yaml")
	w.backUpLoseRestore(t, "meadow", "--include-namespaces", "meadow")
}
