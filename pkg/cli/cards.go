package cli

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A sort is what the objects of a picture have in common, for a person.
type sort struct{ class, title string }

var (
	wrongSort   = sort{"missing", "Missing"}
	diskSort    = sort{"disks", "Disks"}
	configSort  = sort{"config", "Secrets and config"}
	networkSort = sort{"network", "Network"}
	typeSort    = sort{"type", "Type"}
	runSort     = sort{"run", "At run time"}
	otherSort   = sort{"other", "Other"}
	// sorts is the order in which people want to know.
	sorts = []sort{wrongSort, diskSort, configSort, networkSort, typeSort, runSort, otherSort}
)

// A shown is how a picture calls a resource, and its sort.
type shown struct {
	name string
	sort sort
}

var shownAs = map[schema.GroupResource]shown{
	kubevirt.PersistentVolumeClaims:            {"PVC", diskSort},
	kubevirt.DataVolumes:                       {"DataVolume", diskSort},
	kubevirt.DataSources:                       {"DataSource", diskSort},
	kubevirt.VolumeSnapshots:                   {"VolumeSnapshot", diskSort},
	kubevirt.VolumeImportSources:               {"VolumeImportSource", diskSort},
	kubevirt.VolumeCloneSources:                {"VolumeCloneSource", diskSort},
	kubevirt.Secrets:                           {"Secret", configSort},
	kubevirt.ConfigMaps:                        {"ConfigMap", configSort},
	kubevirt.ServiceAccounts:                   {"ServiceAccount", configSort},
	kubevirt.NetworkAttachmentDefinitions:      {"NetworkAttachmentDefinition", networkSort},
	kubevirt.Instancetypes:                     {"Instancetype", typeSort},
	kubevirt.ClusterInstancetypes:              {"ClusterInstancetype", typeSort},
	kubevirt.Preferences:                       {"Preference", typeSort},
	kubevirt.ClusterPreferences:                {"ClusterPreference", typeSort},
	kubevirt.ControllerRevisions:               {"ControllerRevision", typeSort},
	kubevirt.PriorityClasses:                   {"PriorityClass", typeSort},
	kubevirt.VirtualMachineInstancePresets:     {"Preset", typeSort},
	kubevirt.VirtualMachineInstances:           {"VirtualMachineInstance", runSort},
	kubevirt.Pods:                              {"Pod", runSort},
	kubevirt.ResourceClaims:                    {"ResourceClaim", runSort},
	kubevirt.ResourceClaimTemplates:            {"ResourceClaimTemplate", runSort},
	kubevirt.VirtualMachines:                   {"VirtualMachine", otherSort},
	kubevirt.VirtualMachinePools:               {"VirtualMachinePool", otherSort},
	kubevirt.VirtualMachineInstanceReplicaSets: {"ReplicaSet of instances", otherSort},
}

func showAs(resource schema.GroupResource) shown {
	if known, is := shownAs[resource]; is {
		return known
	}
	return shown{resource.Resource, otherSort}
}

// A card is an object of a picture. A DataVolume and its PVC are one: a disk.
type card struct {
	kind, name, detail string
	sort               sort
	state              graph.State
	reason             string // why the first that refers to it does
	from               *card  // that one
	ids                []kubevirt.ID
}

// An arrow leads from a card to one that it refers to.
type arrow struct {
	from, to *card
	reason   string
}

// cards returns what a picture shows of an object, its own card first, what is wrong next.
func (w whole) cards() ([]*card, []arrow) {
	byID := map[kubevirt.ID]*card{}
	var cards []*card
	for _, node := range w.nodes {
		if other := w.diskOf(node.ID, byID); other != nil {
			other.add(node)
			byID[node.ID] = other
			continue
		}
		c := &card{name: node.Name, sort: showAs(node.GroupResource).sort, state: node.State}
		if node.Namespace != "" && node.Namespace != w.root.Namespace {
			c.name = node.Namespace + "/" + node.Name
		}
		c.add(node)
		byID[node.ID], cards = c, append(cards, c)
	}
	var arrows []arrow
	drawn := map[[2]*card]bool{}
	for _, node := range w.nodes {
		from := byID[node.ID]
		for _, n := range node.Neighbours {
			to := byID[n.ID]
			ends := [2]*card{from, to}
			if to == from || drawn[ends] {
				continue
			}
			drawn[ends] = true
			a := arrow{from, to, w.reason(n)}
			if to.from == nil && to != cards[0] {
				to.from, to.reason = from, a.reason
			}
			arrows = append(arrows, a)
		}
	}
	slices.SortStableFunc(cards[1:], func(a, b *card) int { return cmp.Compare(slices.Index(sorts, a.sort), slices.Index(sorts, b.sort)) })
	return cards, arrows
}

// diskOf returns the card of the disk that an object is the other half of.
func (w whole) diskOf(id kubevirt.ID, byID map[kubevirt.ID]*card) *card {
	other := id
	switch id.GroupResource {
	case kubevirt.DataVolumes:
		other.GroupResource = kubevirt.PersistentVolumeClaims
	case kubevirt.PersistentVolumeClaims:
		other.GroupResource = kubevirt.DataVolumes
	default:
		return nil
	}
	if id == w.root || other == w.root {
		return nil
	}
	return byID[other]
}

// add puts an object on a card. A half of a disk that is not needed says nothing of the disk; otherwise what is worse counts.
func (c *card) add(node graph.Node) {
	first := len(c.ids) == 0
	c.ids = append(c.ids, node.ID)
	switch {
	case first:
		c.kind, c.state = showAs(node.GroupResource).name, node.State
	case node.State == graph.NotNeeded:
		return
	default:
		c.kind = "DataVolume and PVC"
		if c.state == graph.Present || c.state == graph.NotNeeded {
			c.state = node.State
		}
	}
	if c.state == graph.Missing || c.state == graph.Malformed {
		c.sort = wrongSort
	}
	for _, detail := range []string{size(node), strings.TrimSpace(note(node))} {
		if detail != "" && !strings.HasSuffix(c.detail, detail) {
			c.detail = strings.TrimPrefix(c.detail+" · "+detail, " · ")
		}
	}
}

// size is how large a disk is, and of which storage class.
func size(node graph.Node) string {
	if node.GroupResource != kubevirt.PersistentVolumeClaims {
		return ""
	}
	var parts []string
	for _, path := range []string{"spec.resources.requests.storage", "spec.storageClassName"} {
		if text, err := object.String(node.Object, path); err == nil && text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " · ")
}

var volumeOfPath = regexp.MustCompile(`^(.*\.)?(volumes\[\d+\])\.`)

// reason is why an object is referred to, in a few words: the volume, or the end of the field's path.
func (w whole) reason(n graph.Neighbour) string {
	if found := volumeOfPath.FindStringSubmatch(n.Path); found != nil && w.volumes[found[2]] != "" {
		return "volume " + w.volumes[found[2]]
	}
	short := n.Path
	for _, prefix := range []string{kubevirt.VMISpec[w.root.GroupResource] + ".", kubevirt.VMSpec[w.root.GroupResource] + ".", "spec."} {
		short = strings.TrimPrefix(short, prefix)
	}
	return cmp.Or(short, n.Relation)
}

// volumesOf returns the names of a VM's volumes by their place: volumes[0].
func volumesOf(root kubevirt.ID, obj map[string]any) map[string]string {
	spec := kubevirt.VMISpec[root.GroupResource]
	names, err := object.Strings(obj, spec+".volumes[].name")
	if spec == "" || err != nil {
		return nil // the walk has said what is malformed
	}
	volumes := map[string]string{}
	for _, name := range names {
		volumes[strings.TrimSuffix(strings.TrimPrefix(name.Path, spec+"."), ".name")] = name.Value
	}
	return volumes
}
