package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// veleroUser is who the Velero server and its plugins are for the API server when the server is not a pod.
const veleroUser = "velero"

// auditPolicy has the API server write down what Velero, its plugins and node agents ask of it.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, users: [` + veleroUser + `, "system:serviceaccount:` + VeleroNamespace + `:velero"]}
- {level: None}
`

// A request is one that the API server answered, as the rules of a ClusterRole tell them apart.
type request struct{ verb, group, resource string }

func (r request) String() string { return fmt.Sprintf("%s %s.%s", r.verb, r.resource, r.group) }

func (r request) grantedBy(rule rbacv1.PolicyRule) bool {
	return slices.Contains(rule.Verbs, r.verb) && slices.Contains(rule.APIGroups, r.group) && slices.Contains(rule.Resources, r.resource)
}

// requestsOf returns what this project's plugin asked of the API server until now, or what Velero asked itself.
func (c *Cluster) requestsOf(plugin bool) (requests []request, err error) {
	file, err := os.Open(c.AuditLog())
	if err != nil {
		return nil, fmt.Errorf("reading what was asked of the API server: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return requests, nil // the last line may be half written
		}
		var event struct {
			Verb, UserAgent string
			ObjectRef       *struct{ Resource, Subresource, APIGroup string }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("reading what was asked of the API server: %w", err)
		}
		ref := event.ObjectRef
		if ref == nil || strings.HasPrefix(event.UserAgent, pluginName+"/") != plugin {
			continue // discovery, which everybody may, or another
		}
		resource := ref.Resource
		if ref.Subresource != "" {
			resource += "/" + ref.Subresource
		}
		requests = append(requests, request{event.Verb, ref.APIGroup, resource})
	}
}

// AuditLog returns where the API server writes down the requests of Velero and its plugins.
func (c *Cluster) AuditLog() string { return c.path("logs", "audit.log") }

// CheckRole compares what this project's plugin has asked of the API server until now with the ClusterRole in a file, and fails when that
// does not grant it.
func (c *Cluster) CheckRole(file string) error {
	role, err := readRole(file)
	if err != nil {
		return err
	}
	requests, err := c.requestsOf(true)
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, r := range requests {
		if !slices.ContainsFunc(role.Rules, r.grantedBy) {
			missing[r.String()] = true
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the plugin asks for what %s does not grant: %q", file, slices.Sorted(maps.Keys(missing)))
	}
	return nil
}

func readRole(file string) (role rbacv1.ClusterRole, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return role, err
	}
	if err := yaml.UnmarshalStrict(content, &role); err != nil {
		return role, fmt.Errorf("reading %s: %w", file, err)
	}
	return role, nil
}

// RestrictVelero takes from Velero that it may do everything, and leaves what it has asked for itself until now, and the ClusterRole in a
// file.
func (c *Cluster) RestrictVelero(ctx context.Context, file string) error {
	plugin, err := readRole(file)
	if err != nil {
		return err
	}
	requests, err := c.requestsOf(false)
	if err != nil {
		return err
	}
	own := rbacv1.ClusterRole{TypeMeta: plugin.TypeMeta, ObjectMeta: metav1.ObjectMeta{Name: "velero"}}
	for _, r := range requests {
		if !slices.ContainsFunc(own.Rules, r.grantedBy) {
			own.Rules = append(own.Rules, rbacv1.PolicyRule{Verbs: []string{r.verb}, APIGroups: []string{r.group}, Resources: []string{r.resource}})
		}
	}
	core, err := kubernetes.NewForConfig(c.RESTConfig)
	if err != nil {
		return err
	}
	for _, role := range []rbacv1.ClusterRole{plugin, own} {
		if _, err := core.RbacV1().ClusterRoles().Create(ctx, &role, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := c.grantVelero(ctx, core, role.Name); err != nil {
			return err
		}
	}
	return core.RbacV1().ClusterRoleBindings().Delete(ctx, "velero", metav1.DeleteOptions{}) // velero install's
}

// UnrestrictVelero lets Velero do everything again.
func (c *Cluster) UnrestrictVelero(ctx context.Context) error {
	core, err := kubernetes.NewForConfig(c.RESTConfig)
	if err != nil {
		return err
	}
	return c.grantVelero(ctx, core, "cluster-admin")
}

func (c *Cluster) grantVelero(ctx context.Context, core kubernetes.Interface, role string) error {
	_, err := core.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "velero-is-" + role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: VeleroNamespace, Name: "velero"}},
	}, metav1.CreateOptions{})
	return err
}
