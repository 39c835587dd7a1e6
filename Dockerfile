# The image that "velero plugin add" takes: Velero starts it as an init container, which copies the plugin into the
# server's plugin folder. The binary is static; "make image" builds both.
FROM scratch
COPY bin/velero-plugin-for-kubevirt /velero-plugin-for-kubevirt
USER 65532:65532
ENTRYPOINT ["/velero-plugin-for-kubevirt"]
CMD ["install", "/target"]
