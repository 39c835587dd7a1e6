package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts a text into a file of its own.
func write(t *testing.T, name, text string) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	// seen is a VM that KubeVirt has taken up, fresh one that is only a file, up to its spec.
	seen = `
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web, namespace: shop}
status: {printableStatus: Stopped}
spec: `
	fresh = `
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web, namespace: shop}
spec: `
	claimed = "{template: {spec: {volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}}\n"
)

// TestWhatIsNotThereIsMissingOrNot shows each case as a person sees it: objects, the line of the tree, the exit code.
func TestWhatIsNotThereIsMissingOrNot(t *testing.T) {
	for name, c := range map[string]struct {
		objects string
		args    string
		want    []string
		code    int
	}{
		"an instancetype without a revision": {
			seen + "{instancetype: {name: small}, template: {spec: {}}}", "vm/web", []string{"virtualmachineclusterinstancetypes/small  (instancetype)  MISSING"}, 1,
		},
		"a preference whose revision is there": {
			seen + "{preference: {name: linux, kind: VirtualMachinePreference, revisionName: web-linux}, template: {spec: {}}}\n---\n" +
				"{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: web-linux, namespace: shop}}",
			"vm/web", []string{"virtualmachinepreferences/linux  (preference)  not here, not needed: the VM has its revision web-linux"}, 0,
		},
		"a memory dump": {
			seen + "{template: {spec: {volumes: [{name: dump, memoryDump: {claimName: dump}}]}}}", "vm/web",
			[]string{"persistentvolumeclaims/dump  (spec.template.spec.volumes[0].memoryDump.claimName)  not here, not needed: a memory dump"}, 0,
		},
		"the disk of a template that KubeVirt has not seen": {
			fresh + "{dataVolumeTemplates: [{metadata: {name: root}, spec: {source: {http: {url: a, secretRef: login}}}}], " +
				"template: {spec: {volumes: [{name: root, dataVolume: {name: root}}]}}}", "vm/web",
			[]string{
				"persistentvolumeclaims/root  (spec.template.spec.volumes[0].dataVolume.name)  will be made: KubeVirt makes it of spec.dataVolumeTemplates[0]",
				"secrets/login  (spec.dataVolumeTemplates[0].spec.source.http.secretRef)  MISSING",
			}, 1,
		},
		"the disk of a template that KubeVirt has made": {
			seen + "{dataVolumeTemplates: [{metadata: {name: root}, spec: {source: {http: {url: a, secretRef: login}}}}], " +
				"template: {spec: {volumes: [{name: root, dataVolume: {name: root}}]}}}", "vm/web",
			[]string{
				"persistentvolumeclaims/root  (spec.template.spec.volumes[0].dataVolume.name)  MISSING",
				"secrets/login  (spec.dataVolumeTemplates[0].spec.source.http.secretRef)  not here, not needed: the disk is filled",
			}, 1,
		},
		"the claim of a DataVolume that is being filled": {
			seen + "{template: {spec: {volumes: [{name: root, dataVolume: {name: root}}]}}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop}, spec: {source: {blank: {}}}, status: {phase: Pending}}", "vm/web",
			[]string{"persistentvolumeclaims/root  (spec.template.spec.volumes[0].dataVolume.name)  will be made: CDI makes it for the DataVolume"}, 0,
		},
		"what a DataVolume is being filled from": {
			"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop, annotations: {cdi.kubevirt.io/storage.import.secretName: a, " +
				"cdi.kubevirt.io/storage.import.certConfigMap: b, cdi.kubevirt.io/storage.pod.vddk.extraargs: c, cdi.kubevirt.io/storage.import.secretExtraHeaders.0: d}}, " +
				"spec: {source: {pvc: {name: golden, namespace: shop}}}}", "dv/root",
			[]string{
				"persistentvolumeclaims/golden  (spec.source.pvc.name)  MISSING", "secrets/a  (import annotation)  MISSING", "configmaps/b  (import annotation)  MISSING",
				"configmaps/c  (import annotation)  MISSING", "secrets/d  (import annotation)  MISSING",
			}, 1,
		},
		"what a DataVolume was filled from": {
			"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop, annotations: {cdi.kubevirt.io/storage.import.secretName: a}}, " +
				"spec: {source: {pvc: {name: golden, namespace: shop}}}, status: {phase: Succeeded}}", "dv/root", []string{"shop/root: complete, 1 object"}, 0,
		},
		"the image behind a DataSource": {
			"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop}, spec: {sourceRef: {kind: DataSource, name: linux}}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataSource, metadata: {name: linux, namespace: shop}, spec: {source: {pvc: {name: golden}}}}", "dv/root",
			[]string{"persistentvolumeclaims/golden  (filled from)  MISSING"}, 1,
		},
		"what a VolumeCloneSource copies": {
			"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}, spec: {dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: VolumeCloneSource, name: copy}}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: VolumeCloneSource, metadata: {name: copy, namespace: shop}, spec: {source: {kind: PersistentVolumeClaim, name: golden}}}", "pvc/root",
			[]string{"    └── persistentvolumeclaims/golden  (copies)  MISSING"}, 1,
		},
		"the secret of a populator that is not done": {
			"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}, spec: {dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: VolumeImportSource, name: iso}}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: VolumeImportSource, metadata: {name: iso, namespace: shop}, spec: {source: {http: {url: a, secretRef: login}}}}", "pvc/root",
			[]string{"    └── secrets/login  (spec.source.http.secretRef)  MISSING"}, 1,
		},
		"what two name, and one of them needs": {
			seen + "{template: {spec: {volumes: [{name: root, dataVolume: {name: root}}, {name: tls, secret: {secretName: both, optional: true}}]}}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop}, spec: {source: {http: {url: a, secretRef: both}}}}", "vm/web",
			[]string{"secrets/both  (spec.template.spec.volumes[1].secret.secretName)  MISSING"}, 1,
		},
		"a claim that its VM says will be made, and its instance needs": {
			seen + "{template: {spec: {volumes: [{name: root, dataVolume: {name: root}}]}}}\n---\n" +
				"{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: web, namespace: shop, " +
				"ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: web, uid: u, controller: true}]}, spec: {volumes: [{name: root, dataVolume: {name: root}}]}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop}, spec: {source: {blank: {}}}}", "vmi/web",
			[]string{"persistentvolumeclaims/root  (spec.volumes[0].dataVolume.name)  will be made: CDI makes it for the DataVolume"}, 0,
		},
		"a DataVolume that nobody names": {
			seen + claimed + "---\n{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}}", "vm/web",
			[]string{"virtualmachines/web\n└── persistentvolumeclaims/root  (spec.template.spec.volumes[0].persistentVolumeClaim.claimName)\n\nshop/web: complete, 2 objects"}, 0,
		},
		"a DataVolume that one volume names and another does not": {
			seen + "{template: {spec: {volumes: [{name: root, dataVolume: {name: root}}, {name: again, persistentVolumeClaim: {claimName: root}}]}}}\n---\n" +
				"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}}", "vm/web",
			[]string{"datavolumes/root  (spec.template.spec.volumes[0].dataVolume.name)  not here, not needed: KubeVirt uses the claim of this name"}, 0,
		},
		"the source of a claim that its DataVolume makes anew": {
			"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop, " +
				"ownerReferences: [{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, name: root, uid: u, controller: true}]}, " +
				"spec: {dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: VolumeImportSource, name: iso}}}", "pvc/root",
			[]string{"persistentvolumeclaims/root\n└── datavolumes/root  (made by)  not here, not needed: the claim is enough\n\n"}, 0,
		},
		"the pull secret of a service account": {
			seen + "{template: {spec: {serviceAccountName: web}}}\n---\n" +
				"{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}, imagePullSecrets: [{name: registry}]}", "vm/web",
			[]string{"    └── secrets/registry  (imagePullSecrets[0].name)  not here, not needed: only images of a private registry need it"}, 0,
		},
		"a malformed neighbour": {
			seen + "{template: {spec: {serviceAccountName: web, volumes: [{name: root, dataVolume: {name: root}}]}}}\n---\n" +
				"{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: root, namespace: shop, labels: {a: 1}}, spec: text, status: {phase: Succeeded}}\n---\n" +
				"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}}\n---\n" +
				"{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}", "vm/web",
			[]string{"datavolumes/root  (spec.template.spec.volumes[0].dataVolume.name)  MALFORMED: spec: want an object, found a string\n", "─ serviceaccounts/web"}, 1,
		},
		"a question that has no answer": {
			seen + "{template: {metadata: {annotations: {hooks.kubevirt.io/hookSidecars: text}}, spec: {volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}}\n---\n" +
				"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}}", "vm/web",
			[]string{"├── persistentvolumeclaims/root", "└── config maps and PVCs of hook sidecars, named in an annotation  unknown: ", "1 unknown, 2 objects"}, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := run("graph", c.args, "-f", write(t, "objects.yaml", c.objects))
			if code != c.code {
				t.Errorf("exit code %d, errors %q", code, errOut)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in:\n%s", want, out)
				}
			}
		})
	}
}
