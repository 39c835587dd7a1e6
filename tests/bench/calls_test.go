package main

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/actions"
	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
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

// BenchmarkCalls is what Velero calls the plugin for in a backup of one running VM, without gRPC.
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
	log := logrus.New()
	log.Out = io.Discard
	reader, witness, no := &lister{Memory: cluster.FromObjects(objects)}, actions.NewWitness(), false
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: mark}, Spec: velerov1.BackupSpec{SnapshotVolumes: &no}}
	block, pods := actions.NewItemBlock(reader, witness, log), actions.NewPodItemBlock(reader, witness, log)
	execute, consistency := actions.NewBackup(reader, witness, log), actions.NewConsistency(reader, witness, log)
	for _, obj := range objects {
		calls := map[string]func(*unstructured.Unstructured) error{}
		related := func(action *actions.ItemBlock) func(*unstructured.Unstructured) error {
			return func(u *unstructured.Unstructured) error {
				_, err := action.GetRelatedItems(u, backup)
				return err
			}
		}
		switch obj.GetKind() {
		case "Pod":
			calls["itemblock"] = related(pods)
		case "VirtualMachine", "VirtualMachineInstance":
			calls["consistency"] = func(u *unstructured.Unstructured) error {
				_, _, err := consistency.Execute(u, backup)
				return err
			}
			calls["itemblock"] = related(block)
			fallthrough
		case "PersistentVolumeClaim":
			calls["backup"] = func(u *unstructured.Unstructured) error {
				_, _, err := execute.Execute(u, backup)
				return err
			}
		}
		for name, call := range calls {
			b.Run(obj.GetKind()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := call(obj.DeepCopy()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
