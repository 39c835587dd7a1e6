package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"
)

// csi is storage with real bytes: our CSI driver, whose volumes and snapshots are files, and the controllers that turn
// claims and snapshots into calls to it.
var csi = part{
	name: "CSI storage",
	programs: []Program{
		{Name: "csidriver", Module: "csidriver", Package: "."},
		{Name: "snapshot-controller", Module: "snapshotter", Package: "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"},
		{Name: "csi-snapshotter", Module: "snapshotter", Package: "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter"},
		{Name: "csi-provisioner", Module: "provisioner", Package: "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"},
	},
	start: startCSI,
}

const (
	// CSIDriver names the CSI driver.
	CSIDriver = "files.csi.test"
	// StorageClass is the default class: its volumes are made at once.
	StorageClass = "files"
	// StorageClassOnDemand is the class whose volumes are made for their first consumer.
	StorageClassOnDemand = "files-on-demand"
	// SnapshotClass is the class that Velero uses: snapshots are deleted with their objects.
	SnapshotClass = "files"
	// SnapshotClassRetain is the class whose snapshots outlive their objects.
	SnapshotClassRetain = "files-retain"
	// GroupSnapshotClass is the class for snapshots of several volumes at once.
	GroupSnapshotClass = "files"
)

func startCSI(ctx context.Context, c *Cluster) error {
	if err := c.clients.createAll(ctx, csiObjects()...); err != nil {
		return err
	}
	socket := filepath.Join(c.supervisor.temp, "csi.sock")
	if _, err := c.supervisor.start(ctx, command{
		name:   "csidriver",
		binary: c.binaries["csidriver"],
		args: append([]string{"--endpoint", socket, "--root", c.storage("csi"), "--faults", c.csiFaults(), "--driver-name", CSIDriver, "--node-id", NodeName},
			c.driverArgs()...),
		ready: func(ctx context.Context) error {
			connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
			if err != nil {
				return err
			}
			return connection.Close()
		},
	}); err != nil {
		return err
	}
	common := []string{
		"--kubeconfig", c.Kubeconfig, "--kube-api-qps", "200", "--kube-api-burst", "400",
		"--retry-interval-max", "5s", // after an injected fault, the default of 5 min would make a test wait
	}
	driver := []string{"--csi-address", socket, "--extra-create-metadata"}
	groups := []string{"--feature-gates", "CSIVolumeGroupSnapshot=true"}
	for _, controller := range []command{
		{name: "snapshot-controller", args: slices.Concat(common, groups)},
		{name: "csi-snapshotter", args: slices.Concat(common, driver, groups)},
		{name: "csi-provisioner", args: slices.Concat(common, driver)},
	} {
		controller.binary = c.binaries[controller.name]
		if _, err := c.supervisor.start(ctx, controller); err != nil {
			return err
		}
	}
	return c.awaitDriver(ctx)
}

func csiObjects() []map[string]any {
	class := func(apiVersion, kind, name string, fields map[string]any) map[string]any {
		fields["apiVersion"], fields["kind"], fields["metadata"] = apiVersion, kind, map[string]any{"name": name}
		return fields
	}
	forVelero := class("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", SnapshotClass,
		map[string]any{"driver": CSIDriver, "deletionPolicy": "Delete"})
	// Velero takes the first class of the driver with this label, whatever its value (pkg/util/csi/volume_snapshot.go,
	// GetVolumeSnapshotClassForStorageClass): so there must be only one.
	forVelero["metadata"].(map[string]any)["labels"] = map[string]any{"velero.io/csi-volumesnapshot-class": "true"}
	groups := class("groupsnapshot.storage.k8s.io/v1beta2", "VolumeGroupSnapshotClass", GroupSnapshotClass,
		map[string]any{"driver": CSIDriver, "deletionPolicy": "Delete"})
	// Likewise (pkg/backup/actions/csi/pvc_action.go, determineVGSClass).
	groups["metadata"].(map[string]any)["labels"] = map[string]any{"velero.io/csi-volumegroupsnapshot-class": "true"}
	standard := class("storage.k8s.io/v1", "StorageClass", StorageClass, map[string]any{
		"provisioner": CSIDriver, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate", "allowVolumeExpansion": true,
	})
	standard["metadata"].(map[string]any)["annotations"] = map[string]any{"storageclass.kubernetes.io/is-default-class": "true"}
	return []map[string]any{
		class("storage.k8s.io/v1", "CSIDriver", CSIDriver, map[string]any{
			// File: a kubelet lets the user of virt-launcher write to the disks.
			"spec": map[string]any{"attachRequired": false, "podInfoOnMount": false, "fsGroupPolicy": "File"},
		}),
		standard,
		class("storage.k8s.io/v1", "StorageClass", StorageClassOnDemand, map[string]any{
			"provisioner": CSIDriver, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
		}),
		forVelero,
		class("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", SnapshotClassRetain,
			map[string]any{"driver": CSIDriver, "deletionPolicy": "Retain"}),
		groups,
	}
}

// CSIFaults say how the CSI driver misbehaves. The zero value: not at all.
type CSIFaults struct {
	// Fail has the error message of each call that fails, by its CSI name, such as CreateSnapshot.
	Fail map[string]string `json:"fail"`
	// Snapshots is how the name of a VolumeSnapshot begins of which CreateSnapshot fails or takes long, empty for all.
	Snapshots string `json:"snapshots"`
	// SnapshotDelay is how old a snapshot is when it becomes ready.
	SnapshotDelay time.Duration `json:"snapshotDelay"`
	// CutDelay is how long the storage takes before it cuts a snapshot.
	CutDelay time.Duration `json:"cutDelay"`
}

// FailCSI makes the CSI driver misbehave from now on, in this way only.
func (c *Cluster) FailCSI(faults CSIFaults) error {
	content, err := json.Marshal(faults)
	if err == nil {
		err = writeFile(c.csiFaults(), content)
	}
	if err != nil {
		return fmt.Errorf("telling the CSI driver its faults: %w", err)
	}
	return nil
}

// csiFaults is the file that tells the driver. Components share its format, not its code: they are modules of their own.
func (c *Cluster) csiFaults() string { return c.path("csi", "faults.json") }
