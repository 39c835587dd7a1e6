package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/cmd/cli/serverstatus"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/backup"
)

// An installation is what was seen of Velero. An error is why a part of it is not known.
type installation struct {
	namespace   string
	status      *velerov1.ServerStatusRequest
	statusErr   error
	deployment  *appsv1.Deployment // nil when there is none
	locations   velerov1.BackupStorageLocationList
	locationErr error
	agent       *appsv1.DaemonSet // nil when there is none
	refused     []string          // what Velero's service account may not do
	err         error             // about anything else
}

// errNoVelero says that the cluster does not serve Velero's resources.
var errNoVelero = errors.New("this cluster has no Velero: install it with \"velero install\", or name another cluster with --context")

// answerTime is how long Velero's server has to answer, as for "velero version".
const answerTime = 5 * time.Second

// lookAtVelero gathers what a backup needs of Velero. It fails when there is no Velero.
func (v *veleroClient) lookAtVelero(ctx context.Context) (*installation, error) {
	i := &installation{namespace: v.namespace}
	i.locationErr = v.List(ctx, &i.locations, client.InNamespace(v.namespace))
	if meta.IsNoMatchError(i.locationErr) {
		return nil, errNoVelero
	}
	answer, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	i.status, i.statusErr = (&serverstatus.DefaultServerStatusGetter{Namespace: v.namespace, Context: answer}).GetServerStatus(v)
	if apierrors.IsNotFound(i.statusErr) {
		return nil, fmt.Errorf("this cluster has no namespace %q: say with --velero-namespace where Velero runs", v.namespace)
	}
	var deployment appsv1.Deployment
	if found, err := v.find(ctx, "velero", &deployment); found {
		i.deployment = &deployment
	} else if err != nil {
		i.err = errors.Join(i.err, fmt.Errorf("reading Deployment %s/velero: %w", v.namespace, err))
	}
	return i, nil
}

// lookAtNodeAgent gathers what moves data (Velero 1.18.1, pkg/nodeagent/node_agent.go).
func (v *veleroClient) lookAtNodeAgent(ctx context.Context, i *installation) {
	var agent appsv1.DaemonSet
	if found, err := v.find(ctx, "node-agent", &agent); found {
		i.agent = &agent
	} else if err != nil {
		i.err = errors.Join(i.err, fmt.Errorf("reading DaemonSet %s/node-agent: %w", v.namespace, err))
	}
}

// find reads an object of Velero's namespace and tells whether there is one.
func (v *veleroClient) find(ctx context.Context, name string, obj client.Object) (bool, error) {
	err := v.Get(ctx, client.ObjectKey{Namespace: v.namespace, Name: name}, obj)
	return err == nil, client.IgnoreNotFound(err)
}

// A right is one that Velero's service account needs for a VM with snapshots.
type right struct{ verb, group, resource, subresource, what string }

var rights = []right{
	{"create", "", "pods", "exec", "run the hooks that freeze guests"},
	{"create", "snapshot.storage.k8s.io", "volumesnapshots", "", "take snapshots"},
	{"get", "kubevirt.io", "virtualmachines", "", "read VMs"},
	{"get", "subresources.kubevirt.io", "virtualmachineinstances", "guestosinfo", "ask guest agents"},
}

// lookAtRights asks what Velero's service account may do, in the whole cluster or else in each of some namespaces.
func (v *veleroClient) lookAtRights(ctx context.Context, i *installation, namespaces []string) {
	account := i.serviceAccount()
	if account == "" {
		return
	}
	for _, right := range rights {
		allowed, err := v.may(ctx, account, "", right)
		for n := 0; n < len(namespaces) && !allowed && err == nil; n++ {
			if allowed, err = v.may(ctx, account, namespaces[n], right); !allowed && err == nil {
				i.refused = append(i.refused, right.what+" in namespace "+namespaces[n])
				allowed = true // one namespace is enough to say so
			}
		}
		if err != nil {
			i.err = errors.Join(i.err, fmt.Errorf("asking whether %s may %s: %w", account, right.what, err))
			return
		}
	}
}

// may tells whether a user has a right. The question leaves nothing in the cluster.
func (v *veleroClient) may(ctx context.Context, user, namespace string, of right) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + v.namespace, "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: of.verb, Group: of.group, Version: "*", Resource: of.resource, Subresource: of.subresource,
		},
	}}
	err := v.Create(ctx, review)
	return review.Status.Allowed, err
}

// serviceAccount returns the user that Velero's server is; "" when it is not known.
func (i *installation) serviceAccount() string {
	if i.deployment == nil || i.deployment.Spec.Template.Spec.ServiceAccountName == "" {
		return ""
	}
	return "system:serviceaccount:" + i.namespace + ":" + i.deployment.Spec.Template.Spec.ServiceAccountName
}

// server tells what of the installation decides how a backup comes out. What is not known is taken to be as good as can be: a snapshot is looked at every
// second at best (Velero 1.18.1, pkg/util/csi/volume_snapshot.go).
func (i *installation) server() backup.Server {
	s := backup.Server{CSI: i.statusErr != nil || i.hasPlugin("velero.io/csi-pvc-backupper"), Poll: time.Second}
	if env, known := i.environment(); known {
		if frequent, err := strconv.ParseBool(env["CSI_SNAPSHOT_EARLY_FREQUENT_POLLING"]); err != nil || !frequent {
			s.Poll = 5 * time.Second
		}
	}
	return s
}

// environment returns the variables of Velero's server, and whether they are known.
func (i *installation) environment() (map[string]string, bool) {
	container := i.container()
	if container == nil {
		return nil, false
	}
	env := map[string]string{}
	for _, variable := range container.Env {
		env[variable.Name] = variable.Value
	}
	return env, true
}

func (i *installation) container() *corev1.Container {
	if i.deployment == nil {
		return nil
	}
	containers := i.deployment.Spec.Template.Spec.Containers
	if n := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == "velero" }); n >= 0 {
		return &containers[n]
	}
	return nil
}

// complete gives a Backup what the server gives one that does not say it (Velero 1.18.1, pkg/controller/backup_controller.go, prepareBackupRequest).
func (i *installation) complete(b *velerov1.Backup) {
	var files, move bool
	group := velerov1.DefaultVGSLabelKey
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.BoolVar(&files, "default-volumes-to-fs-backup", false, "")
	flags.BoolVar(&move, "default-snapshot-move-data", false, "")
	flags.StringVar(&group, "volume-group-snapshot-label-key", group, "")
	if container := i.container(); container != nil {
		_ = flags.Parse(container.Args) // a server with flags that cannot be read does not run
	}
	if b.Spec.DefaultVolumesToFsBackup == nil {
		b.Spec.DefaultVolumesToFsBackup = &files
	}
	if b.Spec.SnapshotMoveData == nil {
		b.Spec.SnapshotMoveData = &move
	}
	if b.Spec.VolumeGroupSnapshotLabelKey == "" {
		b.Spec.VolumeGroupSnapshotLabelKey = group
	}
}

func (i *installation) hasPlugin(prefix string) bool {
	return i.status != nil && slices.ContainsFunc(i.status.Status.Plugins, func(p velerov1.PluginInfo) bool { return strings.HasPrefix(p.Name, prefix) })
}

// A finding is one thing that was checked.
type finding struct {
	What   string `json:"what"`
	State  state  `json:"state"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// A state is what came of a check.
type state string

const (
	good    state = "ok"
	bad     state = "bad"
	unknown state = "unknown"
)

// findings judges the installation, for a backup.
func (i *installation) findings(b *velerov1.Backup) []finding {
	found := i.ofServer()
	found = append(found, i.ofLocation(b.Spec.StorageLocation))
	if boolptr.IsSetToTrue(b.Spec.SnapshotMoveData) && (b.Spec.DataMover == "" || b.Spec.DataMover == "velero") {
		found = append(found, i.ofNodeAgent())
	}
	switch {
	case len(i.refused) > 0:
		found = append(found, finding{"permissions", bad, i.serviceAccount() + " may not " + strings.Join(i.refused, ", not "), "bind it to cluster-admin, as \"velero install\" does"})
	case i.serviceAccount() != "" && i.err == nil:
		found = append(found, finding{What: "permissions", State: good, Detail: i.serviceAccount()})
	}
	if i.err != nil {
		found = append(found, finding{"installation", unknown, i.err.Error(), "ask as somebody who may read namespace " + i.namespace})
	}
	return found
}

func (i *installation) ofServer() []finding {
	switch {
	case errors.Is(i.statusErr, context.DeadlineExceeded):
		return []finding{{"server", bad, fmt.Sprintf("no answer in %s", answerTime), "see whether Velero runs: kubectl logs deploy/velero -n " + i.namespace}}
	case i.statusErr != nil:
		return []finding{{"server", unknown, i.statusErr.Error(), "ask as somebody who may create ServerStatusRequests in namespace " + i.namespace}}
	}
	found := []finding{{What: "server", State: good, Detail: i.status.Status.ServerVersion}}
	if i.hasPlugin("velero.io/csi-pvc-backupper") {
		found = append(found, finding{What: "CSI snapshots", State: good})
	} else {
		found = append(found, finding{"CSI snapshots", bad, "the feature EnableCSI is off", "start the server with --features=EnableCSI"})
	}
	if i.hasPlugin(program + "/") {
		found = append(found, finding{What: "this plugin", State: good, Detail: i.pluginImage()})
	} else {
		found = append(found, finding{"this plugin", bad, "the server does not have it", "velero plugin add IMAGE"})
	}
	return found
}

// pluginImage returns the image that brings this plugin into the server, as far as it can be known.
func (i *installation) pluginImage() string {
	if i.deployment == nil {
		return ""
	}
	for _, container := range i.deployment.Spec.Template.Spec.InitContainers {
		if strings.Contains(container.Image, program) {
			return container.Image
		}
	}
	return ""
}

// ofLocation judges the location of a backup, the default one when it names none.
func (i *installation) ofLocation(name string) finding {
	const what = "backup location"
	if i.locationErr != nil {
		return finding{what, unknown, i.locationErr.Error(), "ask as somebody who may read namespace " + i.namespace}
	}
	for _, location := range i.locations.Items {
		if location.Name != name && (name != "" || !location.Spec.Default) {
			continue
		}
		if location.Status.Phase != velerov1.BackupStorageLocationPhaseAvailable {
			return finding{what, bad, strings.TrimSpace(fmt.Sprintf("%s is %s: %s", location.Name, location.Status.Phase, location.Status.Message)), "velero backup-location get"}
		}
		return finding{What: what, State: good, Detail: location.Name}
	}
	if name == "" {
		return finding{what, bad, "none is the default", "velero backup-location set NAME --default"}
	}
	return finding{what, bad, "there is none called " + name, "velero backup-location get"}
}

func (i *installation) ofNodeAgent() finding {
	switch {
	case i.agent == nil:
		return finding{"node agent", bad, "there is none, and it moves the data", "velero install --use-node-agent"}
	case i.agent.Status.NumberReady < i.agent.Status.DesiredNumberScheduled:
		detail := fmt.Sprintf("ready on %d of %d nodes", i.agent.Status.NumberReady, i.agent.Status.DesiredNumberScheduled)
		return finding{"node agent", bad, detail, "kubectl get pods -n " + i.namespace}
	}
	return finding{What: "node agent", State: good}
}
