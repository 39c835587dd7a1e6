package main

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/actions"
	kvbackup "velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/tests/scenarios"
)

// A lister keeps lists, as the reader of a live cluster does.
type lister struct {
	cluster.Memory
	lists sync.Map
}

func (l *lister) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if known, found := l.lists.Load(query); found {
		return known.(*graph.Objects), nil
	}
	objects, err := l.Memory.List(ctx, query)
	l.lists.Store(query, objects)
	return objects, err
}

// BenchmarkCalls is all that Velero calls the plugin for in a backup with snapshots of one running VM, in its order and without gRPC.
func BenchmarkCalls(b *testing.B) {
	var text bytes.Buffer
	err := vmYAML.Execute(&text, map[string]any{"Namespace": mark, "Name": "vm", "MAC": "02:00:00:00:00:01", "Number": "000000000001"})
	if err != nil {
		b.Fatal(err)
	}
	objects, err := cluster.ReadObjects(&text)
	if err != nil {
		b.Fatal(err)
	}
	byKind := map[string]*unstructured.Unstructured{}
	for _, obj := range objects {
		byKind[obj.GetKind()] = obj
	}
	log := logrus.New()
	log.Out = io.Discard
	reader := &lister{Memory: cluster.FromObjects(objects)}
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: mark}}
	b.ReportAllocs()
	for b.Loop() {
		run := kvbackup.NewRun(reader, scenarios.Discovery, nil, log) // as for each backup
		block, podBlock := actions.NewItemBlock(run), actions.NewPodItemBlock(run)
		execute, consistency := actions.NewBackup(run), actions.NewConsistency(run)
		relate := func(action *actions.ItemBlock, kind string) error {
			_, err := action.GetRelatedItems(byKind[kind].DeepCopy(), backup)
			return err
		}
		backUp := func(kind string, called ...interface {
			Execute(item runtime.Unstructured, backup *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error)
		}) error {
			var item runtime.Unstructured = byKind[kind].DeepCopy()
			var err error
			for _, action := range called {
				if item, _, err = action.Execute(item, backup); err != nil {
					return err
				}
			}
			return nil
		}
		for _, err := range []error{
			relate(podBlock, "Pod"), relate(block, "VirtualMachineInstance"), relate(block, "DataVolume"), relate(block, "VirtualMachine"),
			backUp("VirtualMachineInstance", execute, consistency), backUp("PersistentVolumeClaim", execute),
			backUp("VirtualMachine", execute, consistency),
		} {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
