package cli

import (
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"velero-plugin-for-kubevirt/pkg/cluster"
)

// A connection is the cluster and the namespace that kubectl's flags ask for.
type connection struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
}

// addTo declares kubectl's flags. Those that are seldom needed work, too, and are not in the help.
func (c *connection) addTo(flags *pflag.FlagSet) {
	c.rules = clientcmd.NewDefaultClientConfigLoadingRules()
	known := clientcmd.RecommendedConfigOverrideFlags("")
	known.ContextOverrideFlags.Namespace.Description = "the namespace (default: that of the kubeconfig's context)"
	known.CurrentContext.Description = "the kubeconfig's context"
	connecting := pflag.NewFlagSet("", pflag.ContinueOnError)
	clientcmd.BindOverrideFlags(&c.overrides, connecting, known)
	connecting.VisitAll(func(flag *pflag.Flag) {
		flag.Hidden = flag.Name != clientcmd.FlagNamespace && flag.Name != clientcmd.FlagContext
	})
	flags.AddFlagSet(connecting)
	flags.StringVar(&c.rules.ExplicitPath, clientcmd.RecommendedConfigPathFlag, "", "the kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config)")
}

// givenNamespace is what --namespace says; empty without it.
func (c *connection) givenNamespace() string { return c.overrides.Context.Namespace }

// namespace is the one of the flag, else that of the kubeconfig's context.
func (c *connection) namespace() (string, error) {
	namespace, _, err := c.loader().Namespace()
	if err != nil {
		return "", fmt.Errorf("finding the namespace in the kubeconfig: %w", err)
	}
	return namespace, nil
}

func (c *connection) config() (*rest.Config, error) {
	config, err := c.loader().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("finding the cluster: no kubeconfig: name one with --kubeconfig or KUBECONFIG")
	}
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return rest.AddUserAgent(config, program), nil
}

// reader returns a reader of the cluster. It makes no request.
func (c *connection) reader() (*cluster.Live, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return cluster.NewLive(config)
}

func (c *connection) loader() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(c.rules, &c.overrides)
}
