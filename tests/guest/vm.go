//go:build linux

package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// A NodeCluster is the cluster with a real node, Velero and the plugin.
type NodeCluster struct {
	*story.Site
	Cluster *cluster.Cluster

	images   cluster.Images
	plugin   string
	progress io.Writer
	started  int // clusters, one after another
	core     kubernetes.Interface
}

// Start brings the site up, with the plugin from the archive of its image. It must be called inside, see Enter.
func Start(ctx context.Context, plugin string, progress io.Writer) (*NodeCluster, error) {
	images, err := cluster.BuildImages(ctx, progress)
	if err != nil {
		return nil, err
	}
	w := &NodeCluster{images: images, plugin: plugin, progress: progress}
	return w, w.start(ctx)
}

// start starts the next cluster.
func (w *NodeCluster) start(ctx context.Context) (err error) {
	w.started++
	dir, number := os.Getenv(dirVariable), strconv.Itoa(w.started)
	w.Cluster, err = cluster.Start(ctx, cluster.Options{
		Dir:      filepath.Join(dir, clusterFolder+number),
		Storage:  filepath.Join(dir, storageFolder),
		Progress: w.progress,
		Machine: &cluster.Machine{
			Dir: filepath.Join(dir, machineFolder, "containers"+number), Cgroup: "/" + filepath.Base(dir), Images: w.images, Plugin: w.plugin,
		},
	})
	if err != nil {
		return err
	}
	if w.core, err = kubernetes.NewForConfig(w.Cluster.RESTConfig); err != nil {
		return err
	}
	w.Site, err = story.NewSite(w.Cluster.RESTConfig, cluster.VeleroNamespace, w.Cluster.Velero)
	return err
}

// A VM is a virtual machine with a root disk and a data disk, each a claim: NAME-root is a file system with an image, NAME-data a block
// device.
type VM struct {
	Namespace, Name string
}

// object returns the VirtualMachine or VirtualMachineInstance, to be read or changed.
func (vm VM) object(kind string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion("kubevirt.io/v1")
	obj.SetKind(kind)
	obj.SetNamespace(vm.Namespace)
	obj.SetName(vm.Name)
	return obj
}

const vmYAML = `
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  namespace: %[1]s
  name: %[2]s
  labels: {app: %[2]s}
spec:
  runStrategy: Always
  template:
    metadata:
      labels: {app: %[2]s}
    spec:
      terminationGracePeriodSeconds: 20
      domain:
        cpu: {cores: 1}
        memory: {guest: 192Mi}
        resources: {requests: {cpu: 100m}}
        devices:
          autoattachPodInterface: false
          autoattachGraphicsDevice: false
          autoattachMemBalloon: false
          disks:
          - {name: root, bootOrder: 1, disk: {bus: virtio}}
          - {name: data, disk: {bus: virtio}}
      volumes:
      - {name: root, persistentVolumeClaim: {claimName: %[2]s-root}}
      - {name: data, persistentVolumeClaim: {claimName: %[2]s-data}}
`

const claimYAML = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {namespace: %s, name: %s}
spec: {accessModes: [ReadWriteOnce], volumeMode: %s, resources: {requests: {storage: %d}}}
`

// dataSize is that of the data disk.
const dataSize = 128 << 20

// Make creates a VM with its disks and namespace.
func (w *NodeCluster) Make(ctx context.Context, vm VM) error {
	if err := w.makeNamespace(ctx, vm); err != nil {
		return err
	}
	return w.makeIn(ctx, vm)
}

// makeIn creates a VM with its disks in its namespace, which is there.
func (w *NodeCluster) makeIn(ctx context.Context, vm VM) error {
	if err := w.makeDisks(ctx, vm); err != nil {
		return err
	}
	return w.apply(ctx, fmt.Sprintf(vmYAML, vm.Namespace, vm.Name))
}

func (w *NodeCluster) makeNamespace(ctx context.Context, vm VM) error {
	namespace := &corev1.Namespace{}
	namespace.Name = vm.Namespace
	if err := w.Create(ctx, namespace); err != nil {
		return err
	}
	return w.Cluster.PublishRootCA(ctx, vm.Namespace)
}

// makeDisks creates the disks of a VM.
func (w *NodeCluster) makeDisks(ctx context.Context, vm VM) error {
	if err := w.apply(ctx, fmt.Sprintf(claimYAML, vm.Namespace, vm.Name+"-data", corev1.PersistentVolumeBlock, dataSize)); err != nil {
		return err
	}
	return w.makeDisk(ctx, vm, "root", w.images.GuestDisk)
}

// makeDisk creates a claim of a VM that holds a copy of an image.
func (w *NodeCluster) makeDisk(ctx context.Context, vm VM, disk, image string) error {
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	claim := vm.Name + "-" + disk
	if err := w.apply(ctx, fmt.Sprintf(claimYAML, vm.Namespace, claim, corev1.PersistentVolumeFilesystem, info.Size())); err != nil {
		return err
	}
	path, err := w.Cluster.Bytes(ctx, vm.Namespace, claim)
	if err != nil {
		return err
	}
	return copyDisk(ctx, image, path)
}

// copyDisk copies the bytes of a disk without its holes.
func copyDisk(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying a disk: %w: %s", err, out)
	}
	return nil
}

// apply creates an object from its text, with changes.
func (w *NodeCluster) apply(ctx context.Context, text string, changes ...func(obj map[string]any) error) error {
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		return err
	}
	for _, change := range changes {
		if err := change(obj.Object); err != nil {
			return err
		}
	}
	if err := w.Create(ctx, obj); err != nil {
		return fmt.Errorf("creating %s %s/%s: %w", obj.GetKind(), obj.GetNamespace(), obj.GetName(), err)
	}
	return nil
}

// launcher returns the virt-launcher pod of a VM.
func (w *NodeCluster) launcher(ctx context.Context, vm VM) (*corev1.Pod, error) {
	var pods corev1.PodList
	if err := w.List(ctx, &pods, client.InNamespace(vm.Namespace), client.MatchingLabels{"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": vm.Name}); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			return pod, nil
		}
	}
	return nil, fmt.Errorf("VirtualMachine %s/%s has no running virt-launcher pod", vm.Namespace, vm.Name)
}

// AwaitAgent waits until the guest agent of a VM is connected.
func (w *NodeCluster) AwaitAgent(ctx context.Context, vm VM, limit time.Duration) error {
	return w.awaitAgent(ctx, vm, true, limit)
}

// AwaitNoAgent waits until KubeVirt has noticed that a guest's agent is gone.
func (w *NodeCluster) AwaitNoAgent(ctx context.Context, vm VM, limit time.Duration) error {
	return w.awaitAgent(ctx, vm, false, limit)
}

func (w *NodeCluster) awaitAgent(ctx context.Context, vm VM, connected bool, limit time.Duration) error {
	what := fmt.Sprintf("the condition AgentConnected of VirtualMachineInstance %s/%s to be %t", vm.Namespace, vm.Name, connected)
	return await(ctx, limit, what, func() (bool, error) {
		vmi := vm.object("VirtualMachineInstance")
		err := w.Get(ctx, client.ObjectKeyFromObject(vmi), vmi)
		return err == nil && hasCondition(vmi, "AgentConnected") == connected, client.IgnoreNotFound(err)
	})
}

func hasCondition(obj *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, item := range conditions {
		if condition, _ := item.(map[string]any); condition["type"] == kind && condition["status"] == "True" {
			return true
		}
	}
	return false
}

// await asks every 200 ms until the answer is yes, an error, or the time is over.
func await(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		yes, err := done()
		if yes {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: not after %s", what, limit)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
