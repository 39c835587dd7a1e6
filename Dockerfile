# The image that "velero plugin add" takes: Velero starts it as an init container, which copies the plugin into the
# server's plugin folder. The binary is static. This is for those who build with docker: "make build && docker build .";
# "make image" makes the same without it, with licences and SBOM, for amd64 and arm64.
FROM scratch
COPY bin/velero-plugin-for-kubevirt /velero-plugin-for-kubevirt
USER 65532:65532
ENTRYPOINT ["/velero-plugin-for-kubevirt"]
CMD ["install", "/target"]
