# Filled in and built by `images`; @NAME@ is holdfast-server or holdfast-operator.
FROM scratch
COPY @NAME@ /@NAME@
# Numeric, so that Kubernetes can check runAsNonRoot without a passwd file.
USER 65532:65532
LABEL org.opencontainers.image.title="@NAME@" org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/@NAME@"]
