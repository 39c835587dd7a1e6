package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// An Importer does the work of CDI's pods, which on the played node run nothing: it writes an image into the volume and
// reports the pod's end as a kubelet would. What there is to import, a test says with Serve and Upload.
type Importer struct {
	cluster *Cluster
	client  kubernetes.Interface
	log     *log.Logger

	mu      sync.Mutex
	images  map[string][]byte                // by where they come from
	served  chan struct{}                    // closed when an image was added
	working map[types.UID]context.CancelFunc // ends the work for a pod
	workers sync.WaitGroup
}

// cdiPods selects the pods that CDI starts (CDI v1.65.0, pkg/common/common.go).
const cdiPods = "app=containerized-data-importer"

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
		images: map[string][]byte{}, served: make(chan struct{}), working: map[types.UID]context.CancelFunc{},
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
		i.workers.Wait()
		return file.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("starting the importer: %w", err)
	}
	return i, nil
}

// look starts to work for a pod that has begun to run.
func (i *Importer) look(ctx context.Context, obj any) {
	pod, isPod := obj.(*corev1.Pod)
	if !isPod || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.working[pod.UID] != nil {
		return
	}
	ctx, i.working[pod.UID] = context.WithCancel(ctx)
	i.workers.Go(func() {
		// A pod of CDI's is restarted until it succeeds or is deleted.
		_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
			err := i.work(ctx, pod)
			if err != nil {
				i.log.Printf("pod %s/%s: %v", pod.Namespace, pod.Name, err)
			}
			return err == nil, nil
		})
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
	if cancel := i.working[pod.UID]; cancel != nil {
		cancel()
	}
	delete(i.working, pod.UID)
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
