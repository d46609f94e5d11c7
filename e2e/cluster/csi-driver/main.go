// imagefile-csi: a CSI driver for tests. A volume is an image file of a fixed
// size in one directory that all nodes of the cluster share (a bind mount from
// the machine that runs them), mounted through a loop device; a snapshot is a
// clone of that file (FICLONE where the directory's file system can, which is
// an atomic point in time; else a plain copy). So volumes have a true size
// limit, survive their node, and can be attached elsewhere, as cloud disks do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	reg "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

var (
	name     = flag.String("name", "imagefile.csi.test", "driver name")
	nodeID   = flag.String("node", "", "node name")
	endpoint = flag.String("endpoint", "/csi/csi.sock", "socket to serve CSI on")
	regSock  = flag.String("registration", "", "kubelet registration socket to serve (node mode)")
	kubePath = flag.String("kubelet-endpoint", "", "path of the CSI socket as the kubelet sees it")
	data     = flag.String("data", "/csi-data", "the shared directory (same path here and in the node)")
	host     = flag.String("host", "/host", "root of the node, where mount and mkfs run")
)

type meta struct {
	ID, Name, Source string
	Size             int64
	Created          time.Time
	AttachedTo       string
}

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	mu sync.Mutex
}

func (d *driver) path(id string) string     { return filepath.Join(*data, id+".img") }
func (d *driver) metaPath(id string) string { return filepath.Join(*data, id+".json") }

func (d *driver) load(id string) (*meta, error) {
	b, err := os.ReadFile(d.metaPath(id))
	if err != nil {
		return nil, err
	}
	m := &meta{}
	return m, json.Unmarshal(b, m)
}

func (d *driver) save(m *meta) error {
	b, _ := json.Marshal(m)
	t := d.metaPath(m.ID) + ".new"
	if err := os.WriteFile(t, b, 0o600); err != nil {
		return err
	}
	return os.Rename(t, d.metaPath(m.ID))
}

func validID(id string) bool {
	return (strings.HasPrefix(id, "vol-") || strings.HasPrefix(id, "snap-")) && !strings.ContainsAny(id, "/.")
}

func bad(f string, a ...any) error { return status.Errorf(codes.InvalidArgument, f, a...) }
func fail(err error) error         { return status.Error(codes.Internal, err.Error()) }

func clone(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err == nil {
		return out.Sync()
	}
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err = out.Truncate(st.Size()); err != nil {
		return err
	}
	var off int64 // copy only what holds data
	for off < st.Size() {
		start, err := in.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			break
		} else if err != nil {
			return err
		}
		end, err := in.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err = io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return err
		}
		off = end
	}
	return out.Sync()
}

// onNode runs a command in the root of the node.
func onNode(arg ...string) (string, error) {
	c := exec.Command("/usr/bin/env", append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, arg...)...)
	c.SysProcAttr, c.Dir = &syscall.SysProcAttr{Chroot: *host}, "/"
	b, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(arg, " "), err, strings.TrimSpace(string(b)))
	}
	return strings.TrimSpace(string(b)), err
}

// --- identity ---------------------------------------------------------------

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: *name, VendorVersion: "0.1.0"}, nil
}
func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{
		Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}}}}}, nil
}

// --- controller -------------------------------------------------------------

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	r := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	} {
		r.Capabilities = append(r.Capabilities, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return r, nil
}

func id(prefix, n string) string {
	return prefix + "-" + strings.NewReplacer("/", "_", ".", "_").Replace(n)
}

func (d *driver) CreateVolume(_ context.Context, q *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.Name == "" || len(q.VolumeCapabilities) == 0 {
		return nil, bad("name and capabilities are required")
	}
	v := id("vol", q.Name)
	size := q.CapacityRange.GetRequiredBytes()
	if size == 0 {
		size = 1 << 30
	}
	if m, err := d.load(v); err == nil {
		if m.Size < size {
			return nil, status.Error(codes.AlreadyExists, "volume exists with another size")
		}
		return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: v, CapacityBytes: m.Size, ContentSource: q.VolumeContentSource}}, nil
	}
	src := q.VolumeContentSource.GetSnapshot().GetSnapshotId()
	if src == "" {
		src = q.VolumeContentSource.GetVolume().GetVolumeId()
	}
	if src != "" {
		m, err := d.load(src)
		if !validID(src) || err != nil {
			return nil, status.Errorf(codes.NotFound, "source %q", src)
		}
		if m.Size > size {
			size = m.Size
		}
		if err := clone(d.path(src), d.path(v)); err != nil {
			return nil, fail(err)
		}
	}
	f, err := os.OpenFile(d.path(v), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fail(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return nil, fail(err)
	}
	if err := d.save(&meta{ID: v, Name: q.Name, Size: size, Source: src, Created: time.Now()}); err != nil {
		return nil, fail(err)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: v, CapacityBytes: size, ContentSource: q.VolumeContentSource}}, nil
}

func (d *driver) remove(id string) error {
	if !validID(id) {
		return nil
	}
	_ = os.Remove(d.path(id))
	_ = os.Remove(d.metaPath(id))
	return nil
}

func (d *driver) DeleteVolume(_ context.Context, q *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &csi.DeleteVolumeResponse{}, d.remove(q.VolumeId)
}

// A volume is attached to one node at a time; the lock is the driver's word,
// so a dead node keeps its volume until the attachment is removed.
func (d *driver) ControllerPublishVolume(_ context.Context, q *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.load(q.VolumeId)
	if err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	if m.AttachedTo != "" && m.AttachedTo != q.NodeId {
		return nil, status.Errorf(codes.FailedPrecondition, "attached to %s", m.AttachedTo)
	}
	m.AttachedTo = q.NodeId
	if err := d.save(m); err != nil {
		return nil, fail(err)
	}
	return &csi.ControllerPublishVolumeResponse{}, nil
}

func (d *driver) ControllerUnpublishVolume(_ context.Context, q *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, err := d.load(q.VolumeId); err == nil && (q.NodeId == "" || m.AttachedTo == q.NodeId) {
		m.AttachedTo = ""
		if err := d.save(m); err != nil {
			return nil, fail(err)
		}
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, q *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if _, err := d.load(q.VolumeId); err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: q.VolumeCapabilities}}, nil
}

func snapshot(m *meta) *csi.Snapshot {
	return &csi.Snapshot{SnapshotId: m.ID, SourceVolumeId: m.Source, SizeBytes: m.Size, CreationTime: timestamppb.New(m.Created), ReadyToUse: true}
}

func (d *driver) CreateSnapshot(_ context.Context, q *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := id("snap", q.Name)
	if m, err := d.load(s); err == nil {
		if m.Source != q.SourceVolumeId {
			return nil, status.Error(codes.AlreadyExists, "snapshot of another volume")
		}
		return &csi.CreateSnapshotResponse{Snapshot: snapshot(m)}, nil
	}
	v, err := d.load(q.SourceVolumeId)
	if err != nil || !validID(q.SourceVolumeId) {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	m := &meta{ID: s, Name: q.Name, Source: v.ID, Size: v.Size, Created: time.Now()}
	if err := clone(d.path(v.ID), d.path(s)); err != nil {
		return nil, fail(err)
	}
	if err := d.save(m); err != nil {
		return nil, fail(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(m)}, nil
}

func (d *driver) DeleteSnapshot(_ context.Context, q *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &csi.DeleteSnapshotResponse{}, d.remove(q.SnapshotId)
}

// --- node -------------------------------------------------------------------

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: *nodeID}, nil
}
func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	r := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csi.NodeServiceCapability_RPC_GET_VOLUME_STATS} {
		r.Capabilities = append(r.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return r, nil
}

func mounted(p string) bool { _, err := onNode("mountpoint", "-q", p); return err == nil }

// loopNodes makes the device nodes of the next free loop devices where the node
// container's /dev lacks them. Several, because the nodes of the cluster take
// their loop devices from one kernel and may ask at the same time.
func loopNodes() {
	f, err := os.Open(*host + "/dev/loop-control")
	if err != nil {
		return
	}
	defer f.Close()
	n, err := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CTL_GET_FREE)
	for end := n + 8; err == nil && n < end; n++ {
		_ = unix.Mknod(fmt.Sprintf("%s/dev/loop%d", *host, n), unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(n))))
	}
}

func (d *driver) NodeStageVolume(_ context.Context, q *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mounted(q.StagingTargetPath) {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	img := d.path(q.VolumeId)
	fs := q.VolumeCapability.GetMount().GetFsType()
	if fs == "" {
		fs = "ext4"
	}
	t, err := onNode("blkid", "-p", "-s", "TYPE", "-o", "value", img)
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		// 2 says "nothing recognised": only then the volume is new. Formatting
		// after any other failure would wipe data that could not be read.
		return nil, fail(err)
	}
	if t == "" {
		mk := []string{"mkfs." + fs, "-q", img}
		if fs == "ext4" {
			mk = []string{"mkfs.ext4", "-q", "-F", "-m", "0", img}
		}
		if _, err := onNode(mk...); err != nil {
			return nil, fail(err)
		}
	} else if m, err := d.load(q.VolumeId); err == nil && m.Source != "" && t == "ext4" {
		// a restore into a larger volume; before mounting, for growing a mounted
		// ext4 asks for CAP_SYS_RESOURCE. e2fsck exits 1 where it mended.
		_, _ = onNode("e2fsck", "-f", "-p", img)
		_, _ = onNode("resize2fs", img)
	}
	loopNodes()
	opt := append([]string{"loop"}, q.VolumeCapability.GetMount().GetMountFlags()...)
	if fs == "xfs" {
		opt = append(opt, "nouuid") // a restored snapshot next to its source
	}
	if _, err := onNode("mount", "-t", fs, "-o", strings.Join(opt, ","), img, q.StagingTargetPath); err != nil {
		return nil, fail(err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (d *driver) NodeUnstageVolume(_ context.Context, q *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mounted(q.StagingTargetPath) {
		if _, err := onNode("umount", q.StagingTargetPath); err != nil {
			return nil, fail(err)
		}
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, q *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mounted(q.TargetPath) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(*host+q.TargetPath, 0o750); err != nil {
		return nil, fail(err)
	}
	a := []string{"mount", "--bind", q.StagingTargetPath, q.TargetPath}
	if q.Readonly {
		a = []string{"mount", "-o", "bind,ro", q.StagingTargetPath, q.TargetPath}
	}
	if _, err := onNode(a...); err != nil {
		return nil, fail(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, q *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mounted(q.TargetPath) {
		if _, err := onNode("umount", q.TargetPath); err != nil {
			return nil, fail(err)
		}
	}
	_ = os.Remove(*host + q.TargetPath)
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (d *driver) NodeGetVolumeStats(_ context.Context, q *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(*host+q.VolumePath, &s); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	b := s.Bsize
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: int64(s.Blocks) * b, Available: int64(s.Bavail) * b, Used: int64(s.Blocks-s.Bfree) * b}}}, nil
}

// --- registration with the kubelet (what node-driver-registrar does) ---------

type registration struct {
	reg.UnimplementedRegistrationServer
}

func (registration) GetInfo(context.Context, *reg.InfoRequest) (*reg.PluginInfo, error) {
	return &reg.PluginInfo{Type: "CSIPlugin", Name: *name, Endpoint: *kubePath, SupportedVersions: []string{"1.0.0"}}, nil
}
func (registration) NotifyRegistrationStatus(_ context.Context, s *reg.RegistrationStatus) (*reg.RegistrationStatusResponse, error) {
	log.Printf("registered=%v %s", s.PluginRegistered, s.Error)
	return &reg.RegistrationStatusResponse{}, nil
}

func listen(p string) net.Listener {
	_ = os.Remove(p)
	l, err := net.Listen("unix", p)
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func main() {
	flag.Parse()
	logged := grpc.UnaryInterceptor(func(c context.Context, q any, i *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		r, err := h(c, q)
		if err != nil || !strings.Contains(i.FullMethod, "Probe") {
			log.Printf("%s err=%v", i.FullMethod, err)
		}
		return r, err
	})
	d, s := &driver{}, grpc.NewServer(logged)
	csi.RegisterIdentityServer(s, d)
	csi.RegisterControllerServer(s, d)
	csi.RegisterNodeServer(s, d)
	l := listen(*endpoint)
	if *regSock != "" {
		r := grpc.NewServer()
		reg.RegisterRegistrationServer(r, registration{})
		go func() { log.Fatal(r.Serve(listen(*regSock))) }()
	}
	log.Fatal(s.Serve(l))
}
