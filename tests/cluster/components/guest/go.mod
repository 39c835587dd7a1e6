module velero-plugin-for-kubevirt/tests/cluster/components/guest

go 1.26.0

require golang.org/x/sys v0.40.0
