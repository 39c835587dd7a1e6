package kubevirt

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// An ID names one object of the cluster or the backup. Namespace is empty for a cluster-scoped object.
type ID struct {
	schema.GroupResource
	Namespace string
	Name      string
}

// String returns resource.group/namespace/name, and resource.group/name for a cluster-scoped object.
func (id ID) String() string {
	if id.Namespace == "" {
		return id.GroupResource.String() + "/" + id.Name
	}
	return id.GroupResource.String() + "/" + id.Namespace + "/" + id.Name
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[len(parts)-1] == "" {
		return ID{}, fmt.Errorf("%q is not resource.group/namespace/name", s)
	}
	id := ID{GroupResource: schema.ParseGroupResource(parts[0]), Name: parts[len(parts)-1]}
	if id.Resource == "" { // as of ".group"
		return ID{}, fmt.Errorf("%q is not resource.group/namespace/name", s)
	}
	if len(parts) == 3 {
		id.Namespace = parts[1]
	}
	return id, nil
}
