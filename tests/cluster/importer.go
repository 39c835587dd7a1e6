package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// An Importer does the work of CDI's pods, which on the played node run nothing: it writes the image into the volume and
// reports the pod's end as a kubelet would.
type Importer struct {
	cluster *Cluster
	client  kubernetes.Interface
	log     *log.Logger

	mu     sync.Mutex
	images map[string][]byte                // by URL
	served chan struct{}                    // closed when an image was added
	busy   map[types.UID]context.CancelFunc // ends the work for a pod
	wait   sync.WaitGroup
}

// Labels and environment of CDI's pods (CDI v1.65.0, pkg/common/common.go).
const (
	cdiPods       = "app=containerized-data-importer"
	sourceEnv     = "IMPORTER_SOURCE"
	endpointEnv   = "IMPORTER_ENDPOINT"
	sourceNothing = "none" // a blank image
)

// importComplete is by what CDI recognises an import that went well.
const importComplete = `{"scratchSpaceRequired":false,"preallocationApplied":false,"message":"Import Complete"}`

func startImporter(c *Cluster) (*Importer, error) {
	client, err := kubernetes.NewForConfig(c.RESTConfig)
	if err != nil {
		return nil, fmt.Errorf("starting the importer: %w", err)
	}
	file, err := os.Create(c.path("logs", "importer.log"))
	if err != nil {
		return nil, fmt.Errorf("starting the importer: %w", err)
	}
	i := &Importer{
		cluster: c, client: client, log: log.New(file, "", log.LstdFlags|log.Lmicroseconds),
		images: map[string][]byte{}, served: make(chan struct{}), busy: map[types.UID]context.CancelFunc{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = cdiPods }))
	_, err = factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { i.look(ctx, obj) },
		UpdateFunc: func(_, obj any) { i.look(ctx, obj) },
		DeleteFunc: i.forget,
	})
	factory.Start(ctx.Done())
	c.closers = append(c.closers, func() error {
		cancel()
		factory.Shutdown()
		i.wait.Wait()
		return file.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("starting the importer: %w", err)
	}
	return i, nil
}

// Serve makes an import from a URL find an image there. An import from a URL without image waits for it.
func (i *Importer) Serve(url string, image []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.images[url] = slices.Clone(image)
	close(i.served)
	i.served = make(chan struct{})
}

// look starts to work for a pod that has begun to run.
func (i *Importer) look(ctx context.Context, obj any) {
	pod, isPod := obj.(*corev1.Pod)
	if !isPod || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.busy[pod.UID] != nil {
		return
	}
	ctx, i.busy[pod.UID] = context.WithCancel(ctx)
	i.wait.Go(func() {
		if err := i.work(ctx, pod); err != nil && ctx.Err() == nil {
			i.log.Printf("pod %s/%s: %v", pod.Namespace, pod.Name, err)
		}
	})
}

// forget ends the work for a deleted pod: one that waits for its image would wait for ever.
func (i *Importer) forget(obj any) {
	if last, unseen := obj.(cache.DeletedFinalStateUnknown); unseen {
		obj = last.Obj
	}
	pod, isPod := obj.(*corev1.Pod)
	if !isPod {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if cancel := i.busy[pod.UID]; cancel != nil {
		cancel()
	}
	delete(i.busy, pod.UID)
}

// work does what the pod is there for and reports its end.
func (i *Importer) work(ctx context.Context, pod *corev1.Pod) error {
	env := map[string]string{}
	for _, variable := range pod.Spec.Containers[0].Env {
		env[variable.Name] = variable.Value
	}
	if source, imports := env[sourceEnv]; imports {
		var image []byte
		if source != sourceNothing {
			var err error
			if image, err = i.image(ctx, env[endpointEnv]); err != nil {
				return err
			}
		}
		if err := i.writeImage(ctx, pod, image); err != nil {
			return err
		}
		i.log.Printf("pod %s/%s: imported %d bytes from %q", pod.Namespace, pod.Name, len(image), env[endpointEnv])
	}
	return i.finish(ctx, pod)
}

// image returns the image at a URL, as soon as there is one.
func (i *Importer) image(ctx context.Context, url string) ([]byte, error) {
	for {
		i.mu.Lock()
		image, found := i.images[url]
		served := i.served
		known := slices.Sorted(maps.Keys(i.images))
		i.mu.Unlock()
		if found {
			return image, nil
		}
		i.log.Printf("waiting for an image at %s; there are %q", url, known)
		select {
		case <-served:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// writeImage replaces the bytes of the pod's volume, keeping its size.
func (i *Importer) writeImage(ctx context.Context, pod *corev1.Pod, image []byte) (err error) {
	claim := ""
	for _, volume := range pod.Spec.Volumes {
		// Besides its target, an importer may have a volume for scratch space.
		if volume.PersistentVolumeClaim != nil && claim == "" {
			claim = volume.PersistentVolumeClaim.ClaimName
		}
	}
	path, err := i.cluster.Bytes(ctx, pod.Namespace, claim)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	if _, err := file.WriteAt(image, 0); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	if err := file.Truncate(max(size, int64(len(image)))); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	return nil
}

// finish reports that the pod's containers ended well.
func (i *Importer) finish(ctx context.Context, pod *corev1.Pod) error {
	now := metav1.NewTime(time.Now())
	status := corev1.PodStatus{Phase: corev1.PodSucceeded}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "Completed", Message: importComplete, StartedAt: now, FinishedAt: now,
			}},
		})
	}
	// The UID makes the API server refuse if another pod has the name by now.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("reporting the pod's end: %w", err)
	}
	_, err = i.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("reporting the pod's end: %w", err)
	}
	return nil
}
