package graph

import (
	"context"
	"errors"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// lists is a reader of lists by query; any other list is an error.
type lists map[Query]*Objects

func (l lists) List(_ context.Context, query Query) (*Objects, error) {
	if found, is := l[query]; is {
		return found, nil
	}
	return nil, errors.New("nobody should ask for this")
}

func (lists) Each(context.Context, schema.GroupResource, func(map[string]any) error) error {
	return nil
}
func (lists) Get(context.Context, kubevirt.ID) (map[string]any, error) { return nil, nil }

func TestNetworksOfBothForms(t *testing.T) {
	nad := func(namespace, name string) kubevirt.ID {
		return kubevirt.ID{GroupResource: kubevirt.NetworkAttachmentDefinitions, Namespace: namespace, Name: name}
	}
	for text, want := range map[string][]kubevirt.ID{
		"blue, lan/red@eth1": {nad("shop", "blue"), nad("lan", "red")},
		`[{"name": "blue"}, {"name": "red", "namespace": "lan"}]`: {nad("shop", "blue"), nad("lan", "red")},
		"": nil,
	} {
		if got, err := networks("shop", text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestAVMWithoutBindingPluginsAsksForNoKubeVirt(t *testing.T) {
	vm := Item{kubevirt.VirtualMachines, map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{}}}}}
	if ids, err := bindingPluginNetworks(t.Context(), vm, lists{}); err != nil || ids != nil {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestTheSourceOfAVolume(t *testing.T) {
	claim := func(field, group, kind, namespace string) Item {
		return Item{kubevirt.PersistentVolumeClaims, map[string]any{"metadata": map[string]any{"namespace": "shop"}, "spec": map[string]any{
			field: map[string]any{"apiGroup": group, "kind": kind, "name": "iso", "namespace": namespace},
		}}}
	}
	source := func(group, resource string) []kubevirt.ID {
		return []kubevirt.ID{{GroupResource: schema.GroupResource{Group: group, Resource: resource}, Namespace: "shop", Name: "iso"}}
	}
	bound := claim("dataSourceRef", "cdi.kubevirt.io", "VolumeImportSource", "")
	bound.Object["status"] = map[string]any{"phase": "Bound"}
	for name, c := range map[string]struct {
		item Item
		want []kubevirt.ID
	}{
		"of CDI":                       {claim("dataSourceRef", "cdi.kubevirt.io", "VolumeImportSource", ""), source("cdi.kubevirt.io", "volumeimportsources")},
		"in the older field":           {claim("dataSource", "snapshot.storage.k8s.io", "VolumeSnapshot", ""), source("snapshot.storage.k8s.io", "volumesnapshots")},
		"of somebody else":             {claim("dataSourceRef", "tapes.example.com", "Tape", ""), source("tapes.example.com", "tapes")},
		"in its namespace, by name":    {claim("dataSourceRef", "", "PersistentVolumeClaim", "shop"), source("", "persistentvolumeclaims")},
		"in another namespace":         {claim("dataSourceRef", "snapshot.storage.k8s.io", "VolumeSnapshot", "images"), nil},
		"of a claim that is filled":    {bound, nil},
		"without a kind that is known": {claim("dataSourceRef", "cdi.kubevirt.io", "", ""), nil},
	} {
		if ids, err := sourceOfVolume(t.Context(), c.item, nil); err != nil || !slices.Equal(ids, c.want) {
			t.Errorf("%s: %v, %v", name, ids, err)
		}
	}
}

func TestThePodsOfAnInstanceWithoutAUIDAreNotKnown(t *testing.T) {
	reader := lists{activePods("shop"): {All: []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{Name: "other"}}}}}
	if pods, err := PodsOf(t.Context(), reader, "shop", ""); err != nil || pods != nil {
		t.Errorf("%v, %v", pods, err)
	}
	if _, err := PodsOf(t.Context(), lists{}, "shop", "uid"); err == nil {
		t.Error("a list that fails is no error")
	}
}

// TestAPodOfAnInstanceOfItsOwn: its VMI has no VM.
func TestAPodOfAnInstanceOfItsOwn(t *testing.T) {
	yes := true
	pod := Item{kubevirt.Pods, map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "virt-launcher-web", "ownerReferences": []any{
		map[string]any{"kind": "VirtualMachineInstance", "name": "web", "uid": "uid-of-web", "controller": true},
	}}}}
	for owner, want := range map[string]int{"": 1, "VirtualMachineInstanceReplicaSet": 1, "VirtualMachine": 2} {
		vmi := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid-of-web"}}
		if owner != "" {
			vmi.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: "web", UID: "uid-of-owner", Controller: &yes}}
		}
		reader := lists{activePods("shop"): {}, {GroupResource: kubevirt.VirtualMachineInstances, Namespace: "shop"}: {All: []metav1.PartialObjectMetadata{vmi}}}
		if ids, err := familyOfPod(t.Context(), pod, reader); err != nil || len(ids) != want {
			t.Errorf("with owner %q: %v, %v", owner, ids, err)
		}
	}
}

func TestOfTwoReferencesToOneObjectTheNeededOneCounts(t *testing.T) {
	secret := kubevirt.ID{GroupResource: kubevirt.Secrets, Namespace: "shop", Name: "key"}
	for _, order := range [][]Neighbour{{{ID: secret, Optional: true}, {ID: secret}}, {{ID: secret}, {ID: secret, Optional: true}}} {
		if got := unique(order); len(got) != 1 || got[0].Optional {
			t.Errorf("%+v", got)
		}
	}
}

func TestNothingIsFoundInNoObjects(t *testing.T) {
	var none *Objects
	if none.Named("web") != nil {
		t.Error("found something")
	}
}

func TestAnInstancetypeNeedsNoPreference(t *testing.T) {
	for field, want := range map[string]kubevirt.ID{
		"instancetype": {GroupResource: kubevirt.ClusterInstancetypes, Name: "small"},
		"preference":   {GroupResource: kubevirt.ClusterPreferences, Name: "small"},
	} {
		vm := Item{kubevirt.VirtualMachines, map[string]any{"spec": map[string]any{field: map[string]any{"name": "small"}}}}
		found, err := instancetypeAndPreference(t.Context(), vm, lists{})
		if err != nil || len(found) != 1 || found[0].ID != want {
			t.Errorf("%s: %v, %v", field, found, err)
		}
	}
}
