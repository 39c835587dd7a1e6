package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/client-go/kubecli"
)

// A handler plays the virt-handlers of all nodes.
type handler struct {
	settings
	client   kubecli.KubevirtClient
	node     kubernetes.Interface // what a kubelet writes
	journal  *journal
	informer cache.SharedIndexInformer
	queue    workqueue.TypedRateLimitingInterface[string]

	mu        sync.Mutex
	guests    map[string]*guest       // by namespace/name of the instance
	launchers map[types.UID]*launcher // by pod
	serving   map[string][]types.UID  // which of them belong to an instance
	uids      map[string]types.UID    // the instance a guest belongs to
}

func newHandler(client kubecli.KubevirtClient, node kubernetes.Interface, s settings, j *journal) *handler {
	watch := cache.NewListWatchFromClient(client.RestClient(), "virtualmachineinstances", metav1.NamespaceAll, fields.Everything())
	return &handler{
		settings:  s,
		client:    client,
		node:      node,
		journal:   j,
		informer:  cache.NewSharedIndexInformer(watch, &v1.VirtualMachineInstance{}, 0, cache.Indexers{}),
		queue:     workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
		guests:    map[string]*guest{},
		launchers: map[types.UID]*launcher{},
		serving:   map[string][]types.UID{},
		uids:      map[string]types.UID{},
	}
}

// control follows all instances until the context ends.
func (h *handler) control(ctx context.Context) error {
	enqueue := func(obj any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
			h.queue.Add(key)
		}
	}
	_, err := h.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) }, DeleteFunc: enqueue,
	})
	if err != nil {
		return fmt.Errorf("watching instances: %w", err)
	}
	go h.informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), h.informer.HasSynced) {
		return ctx.Err()
	}
	klog.Info("following all instances")
	for range 4 {
		go h.work(ctx)
	}
	<-ctx.Done()
	h.queue.ShutDown()
	return ctx.Err()
}

func (h *handler) work(ctx context.Context) {
	for {
		key, shutdown := h.queue.Get()
		if shutdown {
			return
		}
		again, err := h.sync(ctx, key)
		switch {
		case err != nil:
			klog.ErrorS(err, "following an instance", "instance", key)
			h.queue.AddRateLimited(key)
		case again > 0:
			h.queue.Forget(key)
			h.queue.AddAfter(key, again)
		default:
			h.queue.Forget(key)
		}
		h.queue.Done(key)
	}
}

// sync does one step with an instance, and says when to look again even if nothing changes.
func (h *handler) sync(ctx context.Context, key string) (again time.Duration, err error) {
	old := h.instance(key)
	if old == nil || old.IsFinal() || old.Status.NodeName == "" {
		h.powerOff(key)
		return 0, nil
	}
	vmi := old.DeepCopy()
	g := h.guestOf(vmi)
	step, err := h.play(ctx, vmi, g)
	if err != nil {
		return 0, err
	}
	if vmi.Status.Phase == v1.Running {
		if err := h.serveLaunchers(vmi, g); err != nil {
			return 0, err
		}
		if err := h.plugDisks(ctx, vmi, g); err != nil {
			// Later, and without holding up what KubeVirt waits for.
			klog.ErrorS(err, "giving a guest its disks", "instance", key)
			step = time.Second
		}
	}
	if equality.Semantic.DeepEqual(old.Status, vmi.Status) && equality.Semantic.DeepEqual(old.Labels, vmi.Labels) {
		return step, nil
	}
	_, err = h.client.VirtualMachineInstance(vmi.Namespace).Update(ctx, vmi, metav1.UpdateOptions{})
	switch {
	case apierrors.IsConflict(err):
		return 50 * time.Millisecond, nil // the informer is a little late
	case apierrors.IsNotFound(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("updating the instance: %w", err)
	}
	klog.InfoS("updated", "instance", key, "phase", vmi.Status.Phase, "node", vmi.Status.NodeName, "freeze", vmi.Status.FSFreezeStatus)
	return step, nil
}

// instance returns what the informer knows under a key, or nil. It must not be changed.
func (h *handler) instance(key string) *v1.VirtualMachineInstance {
	obj, found, err := h.informer.GetStore().GetByKey(key)
	if err != nil || !found {
		return nil // the store itself never fails
	}
	vmi, _ := obj.(*v1.VirtualMachineInstance)
	return vmi
}

// guestOf returns the guest of an instance. A new instance of the same name has a new guest.
func (h *handler) guestOf(vmi *v1.VirtualMachineInstance) *guest {
	key := vmi.Namespace + "/" + vmi.Name
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.uids[key] != vmi.UID {
		h.dropLocked(key)
	}
	if h.guests[key] == nil {
		h.guests[key] = newGuest(vmi.Namespace, vmi.Name, h.journal, h.statusLag, func() { h.queue.Add(key) })
		h.uids[key] = vmi.UID
	}
	return h.guests[key]
}

// powerOff ends a guest and its launchers.
func (h *handler) powerOff(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(key)
}

func (h *handler) dropLocked(key string) {
	for _, pod := range h.serving[key] {
		h.launchers[pod].stop()
		delete(h.launchers, pod)
	}
	if g := h.guests[key]; g != nil {
		g.powerOff()
	}
	delete(h.serving, key)
	delete(h.guests, key)
	delete(h.uids, key)
}

// serveLaunchers opens the sockets of an instance's pods. During a migration it has two.
func (h *handler) serveLaunchers(vmi *v1.VirtualMachineInstance, g *guest) error {
	key := vmi.Namespace + "/" + vmi.Name
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for pod := range vmi.Status.ActivePods {
		if h.launchers[pod] != nil {
			continue
		}
		l, err := startLauncher(h, key, pod, g)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h.launchers[pod] = l
		h.serving[key] = append(h.serving[key], pod)
	}
	return errors.Join(errs...)
}

func (h *handler) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.guests {
		h.dropLocked(key)
	}
}
