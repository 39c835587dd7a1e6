package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What CDI's pods are told (CDI v1.65.0, pkg/common/common.go and pkg/controller).
const (
	kindLabel    = "cdi.kubevirt.io"
	importerPod  = "importer"
	uploadPod    = "cdi-upload-server"
	clonePod     = "cdi-clone-source"
	serviceLabel = "service" // of an upload server's pod
	targetVolume = "cdi-data-vol"

	sourceEnv     = "IMPORTER_SOURCE"
	endpointEnv   = "IMPORTER_ENDPOINT"
	uploadEnv     = "UPLOAD_URL"
	sourceNothing = "none" // a blank image
)

// Serve makes imports from a URL find an image there. An import from a URL without image waits for it.
func (i *Importer) Serve(url string, image []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.images[url] = slices.Clone(image)
	close(i.served)
	i.served = make(chan struct{})
}

// Upload gives a DataVolume with the source upload its image, now or as soon as it waits for it.
func (i *Importer) Upload(namespace, name string, image []byte) {
	i.Serve(uploadKey(namespace, name), image)
}

func uploadKey(namespace, name string) string { return "upload:" + namespace + "/" + name }

// work does what a pod is there for and reports its end.
func (i *Importer) work(ctx context.Context, pod *corev1.Pod) error {
	var err error
	switch pod.Labels[kindLabel] {
	case importerPod:
		err = i.runImport(ctx, pod)
	case uploadPod:
		err = i.runUpload(ctx, pod)
	case clonePod:
		err = i.runClone(ctx, pod)
	}
	if err != nil {
		return err
	}
	i.log.Printf("pod %s/%s: done", pod.Namespace, pod.Name)
	return i.finish(ctx, pod)
}

func (i *Importer) runImport(ctx context.Context, pod *corev1.Pod) error {
	if environment(pod, sourceEnv) == sourceNothing {
		return i.writeImage(ctx, pod, nil)
	}
	image, err := i.image(ctx, environment(pod, endpointEnv))
	if err != nil {
		return err
	}
	return i.writeImage(ctx, pod, image)
}

// runUpload waits for what a clone or a test sends.
func (i *Importer) runUpload(ctx context.Context, pod *corev1.Pod) error {
	target := claimOf(pod)
	claim, err := i.client.CoreV1().PersistentVolumeClaims(pod.Namespace).Get(ctx, target, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the pod's claim: %w", err)
	}
	// CDI fills a claim of its own, which belongs to the one it is for.
	if owner := metav1.GetControllerOf(claim); owner != nil && owner.Kind == "PersistentVolumeClaim" {
		target = owner.Name
	}
	url := fmt.Sprintf("https://%s.%s.svc:8443/v1beta1/upload", pod.Labels[serviceLabel], pod.Namespace)
	image, err := i.image(ctx, url, uploadKey(pod.Namespace, target))
	if err != nil {
		return err
	}
	return i.writeImage(ctx, pod, image)
}

// runClone sends a volume to an upload server.
func (i *Importer) runClone(ctx context.Context, pod *corev1.Pod) error {
	path, err := i.cluster.Bytes(ctx, pod.Namespace, claimOf(pod))
	if err != nil {
		return err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the volume to clone: %w", err)
	}
	i.Serve(environment(pod, uploadEnv), image)
	return nil
}

func environment(pod *corev1.Pod, name string) string {
	for _, variable := range pod.Spec.Containers[0].Env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}

// claimOf returns the claim that a pod reads or fills. Besides that, it may have one for scratch space.
func claimOf(pod *corev1.Pod) string {
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == targetVolume && volume.PersistentVolumeClaim != nil {
			return volume.PersistentVolumeClaim.ClaimName
		}
	}
	return ""
}

// image returns the image from one of several places, as soon as there is one.
func (i *Importer) image(ctx context.Context, places ...string) ([]byte, error) {
	for {
		i.mu.Lock()
		served, known := i.served, slices.Sorted(maps.Keys(i.images))
		for _, place := range places {
			if image, found := i.images[place]; found {
				i.mu.Unlock()
				return image, nil
			}
		}
		i.mu.Unlock()
		i.log.Printf("waiting for an image from %q; there are %q", places, known)
		select {
		case <-served:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// writeImage replaces the bytes of the pod's volume, keeping its size.
func (i *Importer) writeImage(ctx context.Context, pod *corev1.Pod, image []byte) (err error) {
	path, err := i.cluster.Bytes(ctx, pod.Namespace, claimOf(pod))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the image: %w", err)
		}
	}()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.WriteAt(image, 0); err != nil {
		return err
	}
	return file.Truncate(max(size, int64(len(image))))
}
