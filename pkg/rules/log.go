package rules

import (
	"github.com/sirupsen/logrus"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Log writes one line for each decision, and for people who debug one for each change: a constant message, and what varies as fields.
func Log(log logrus.FieldLogger, item kubevirt.ID, applied []Applied) {
	for _, a := range applied {
		log := log.WithFields(logrus.Fields{"rule": a.Rule, "item": item.String()})
		for _, change := range a.Changes {
			level := logrus.InfoLevel
			if a.Routine {
				level = logrus.DebugLevel
			}
			log.WithField("path", change.Path).Log(level, change.What)
		}
		for _, warning := range a.Warnings {
			log := log.WithFields(logrus.Fields{"path": warning.Path, "neighbour": warning.Other.String()})
			if warning.Reason != "" {
				log = log.WithField("why", warning.Reason)
			}
			log.Warn(warning.What)
		}
		if a.LeaveOut != "" {
			log.WithField("reason", a.LeaveOut).Info("left out of the restore")
		}
	}
}
