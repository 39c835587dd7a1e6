package backup

import (
	"context"
	"maps"
	"slices"
	"strings"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// copiesFiles tells of each claim of a running pod whether Velero copies its files from there (Velero 1.18.1, pkg/util/podvolume/pod_volume.go,
// GetVolumesByPod). It would put them back into the restored pod (pkg/podvolume/restorer.go), and KubeVirt's pods are not restored.
func (s *scope) copiesFiles(pod *corev1.Pod) map[kubevirt.ID]bool {
	list := velerov1.VolumesToBackupAnnotation
	if s.allFiles {
		list = velerov1.VolumesToExcludeAnnotation
	}
	copied := map[kubevirt.ID]bool{}
	for _, volume := range pod.Spec.Volumes {
		if volume.PersistentVolumeClaim != nil {
			claim := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: pod.Namespace, Name: volume.PersistentVolumeClaim.ClaimName}
			copied[claim] = s.allFiles != slices.Contains(strings.Split(pod.Annotations[list], ","), volume.Name)
		}
	}
	return copied
}

// disksCopied returns the disks of which Velero copies the files from the pods of an instance.
func (r *Run) disksCopied(ctx context.Context, namespace, uid string, scope *scope) ([]consistency.Disk, error) {
	pods, err := graph.PodsOf(ctx, r.reader, namespace, uid)
	if err != nil {
		return nil, err
	}
	files := map[kubevirt.ID]bool{}
	for _, metadata := range pods {
		if metadata.Annotations[velerov1.VolumesToBackupAnnotation] == "" {
			continue
		}
		obj, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: namespace, Name: metadata.Name})
		if err != nil {
			return nil, err
		}
		if obj == nil {
			continue // it has gone meanwhile
		}
		pod, err := as[corev1.Pod](obj)
		if err != nil {
			return nil, err
		}
		maps.Copy(files, scope.copiesFiles(pod))
	}
	var disks []consistency.Disk
	for _, claim := range slices.SortedFunc(maps.Keys(files), func(a, b kubevirt.ID) int { return strings.Compare(a.Name, b.Name) }) {
		disks = append(disks, consistency.Disk{Name: claim.Name, Files: files[claim]})
	}
	return disks, nil
}
