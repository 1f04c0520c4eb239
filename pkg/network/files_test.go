package network

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// offline is a Network that knows its configuration only: what Files needs.
func offline(dns ...string) *Network {
	return &Network{
		cfg:    Config{DNS: dns},
		bridge: &bridge{gateway: netip.MustParsePrefix("172.30.0.1/16")},
	}
}

func TestFilesAreThoseOfDocker(t *testing.T) {
	dir := t.TempDir()
	spec := &triton.Spec{
		DNS: []string{"10.1.2.3"}, DNSSearch: []string{"a.example", "b.example"}, DNSOptions: []string{"ndots:2"},
		ExtraHosts: []string{"db:10.0.0.9", "six:[2001:db8::1]", "up:host-gateway"},
	}
	if err := offline("10.9.9.9").Files(dir, Names{
		Hostname: "web", Domainname: "example.com", Addresses: []netip.Addr{netip.MustParseAddr("172.30.0.7")}, Owner: 300000,
	}, spec); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		HostsFile: defaultHosts + "10.0.0.9\tdb\n2001:db8::1\tsix\n172.30.0.1\tup\n" +
			"172.30.0.7\tweb.example.com web\n",
		HostnameFile: "web\n",
	}
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(content, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	resolv, err := os.ReadFile(filepath.Join(dir, ResolvFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"nameserver 10.1.2.3\n", "search a.example b.example\n", "options ndots:2\n"} {
		if !strings.Contains(string(resolv), line) {
			t.Errorf("resolv.conf: got %q, want %q in it", resolv, line)
		}
	}
	if n := strings.Count(string(resolv), "nameserver"); n != 1 {
		t.Errorf("nameservers: got %d, want the spec's only: %s", n, resolv)
	}
	for _, name := range []string{HostsFile, HostnameFile, ResolvFile} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := st.Sys().(*syscall.Stat_t); owner.Uid != 300000 || owner.Gid != 300000 || st.Mode().Perm() != 0o644 {
			t.Errorf("%s: got %d:%d %v, want 300000:300000 0644", name, owner.Uid, owner.Gid, st.Mode())
		}
	}
}

func TestFilesOfHostNetworkAreTheHosts(t *testing.T) {
	dir := t.TempDir()
	if err := offline().Files(dir, Names{Hostname: "machine"}, &triton.Spec{NetworkMode: triton.ModeHost}); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{HostsFile: hostHosts, ResolvFile: hostResolv} {
		want, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %q (%v), want the host's %q", name, got, err, want)
		}
	}
}

func TestFilesRefuseWhatIsNoAddress(t *testing.T) {
	for _, spec := range []triton.Spec{
		{ExtraHosts: []string{"db"}},
		{ExtraHosts: []string{":10.0.0.1"}},
		{ExtraHosts: []string{"db:10.0.0"}},
		{ExtraHosts: []string{"a\nb:10.0.0.1"}},
		{DNS: []string{"resolver.example"}},
		{NetworkMode: "container:abc"},
	} {
		if err := offline().Files(t.TempDir(), Names{Hostname: "h"}, &spec); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: got %v, want an invalid argument", spec, err)
		}
	}
}

func TestResolvKeepsWhatAContainerCanReach(t *testing.T) {
	for _, tc := range []struct{ name, host, want string }{
		{"loopback is left out", "nameserver 127.0.0.1\nnameserver 10.0.0.2\n", "nameserver 10.0.0.2\n"},
		{"IPv6 is left out", "nameserver fe80::1%eth0\nnameserver ::1\nnameserver 10.0.0.2", "nameserver 10.0.0.2\n"},
		{"nothing left", "nameserver 127.0.0.53\noptions edns0\nsearch lan\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch lan\noptions edns0\n"},
		{"empty", "", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{"search can be none", "nameserver 10.0.0.2\nsearch .\n", "nameserver 10.0.0.2\n"},
		{"others are kept", "# c\n; d\nsortlist  10.0.0.0\nnameserver 10.0.0.2\n", "nameserver 10.0.0.2\nsortlist 10.0.0.0\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := parseResolv([]byte(tc.host))
			c.keepReachable()
			_, got, _ := bytes.Cut(c.bytes(), []byte("\n"))
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzForwardingRecord(f *testing.F) {
	f.Add("triton/x ip_forward=0 accept_redirects=1 forwarding=eth0")
	f.Add("triton/x forwarding=../../x ip_forward=0 accept_redirects=")
	f.Add("triton/x ip_forward=1 accept_redirects=1 ip6_forward=0 accept_ra=eth0 forwarding6=../lo")
	f.Fuzz(func(t *testing.T, alias string) {
		got, ok := decodeForwarding("triton/x", alias)
		if !ok {
			return
		}
		names := got.interfaces
		if got.ip6 != nil {
			names = slices.Concat(names, got.ip6.interfaces, got.ip6.acceptRA)
		}
		for _, name := range names {
			if strings.Contains(name, "/") {
				t.Errorf("interface %q leads elsewhere", name)
			}
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.1\nsearch a b\noptions ndots:1\nsortlist x\n"))
	f.Add([]byte("nameserver\nsearch\n;\n#\x00\r\nnameserver fe80::1%lo"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parseResolv(data)
		c.keepReachable()
		again := parseResolv(c.bytes())
		if !cmp.Equal(c.nameservers, again.nameservers) {
			t.Errorf("nameservers: got %q after writing, want %q", again.nameservers, c.nameservers)
		}
	})
}
