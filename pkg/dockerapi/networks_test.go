package dockerapi

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"

	"github.com/tritond/triton/pkg/triton"
)

func TestEveryFieldOfANetworkBodyHasARule(t *testing.T) {
	checkTableAgainstType(t, networkRules(), reflect.TypeFor[network.CreateRequest](), "CheckDuplicate")
	checkTableAgainstType(t, connectRules(), reflect.TypeFor[network.ConnectRequest]())
	checkTableAgainstType(t, disconnectRules(), reflect.TypeFor[network.DisconnectRequest]())
}

// netSpecFrom does what createNetwork does with a body.
func netSpecFrom(body string) (triton.NetworkSpec, error) {
	tree, err := decodeTree([]byte(body))
	if err != nil {
		return triton.NetworkSpec{}, err
	}
	if err := buildRules(networkRules()).check(tree, ""); err != nil {
		return triton.NetworkSpec{}, err
	}
	var req network.CreateRequest
	if err := decodeTyped(tree, &req); err != nil {
		return triton.NetworkSpec{}, err
	}
	return networkSpec(&req)
}

func TestNetworkSpecOfARequest(t *testing.T) {
	got, err := netSpecFrom(`{"Name":"n","Driver":"bridge","Internal":true,"Attachable":true,"CheckDuplicate":true,"EnableIPv6":true,"Labels":{"a":"b"},
		"IPAM":{"Driver":"default","Config":[{"Subnet":"10.9.0.0/24","IPRange":"10.9.0.128/25","Gateway":"10.9.0.9","AuxiliaryAddresses":{"x":"10.9.0.7"}},
		{"Subnet":"fd00:9::/64","Gateway":"fd00:9::9"}]},
		"Options":{"com.docker.network.bridge.enable_icc":"false","com.docker.network.bridge.enable_ip_masquerade":"0",
		"com.docker.network.bridge.host_binding_ipv4":"127.0.0.1","com.docker.network.driver.mtu":"1400"}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := triton.NetworkSpec{
		Name: "n", Internal: true, Attachable: true, Labels: map[string]string{"a": "b"}, NoICC: true, NoMasquerade: true, MTU: 1400,
		Pool: triton.Pool{
			Subnet: netip.MustParsePrefix("10.9.0.0/24"), IPRange: netip.MustParsePrefix("10.9.0.128/25"), Gateway: netip.MustParseAddr("10.9.0.9"),
			Aux: map[string]netip.Addr{"x": netip.MustParseAddr("10.9.0.7")}, Chosen: true,
		},
		IPv6:   &triton.Pool{Subnet: netip.MustParsePrefix("fd00:9::/64"), Gateway: netip.MustParseAddr("fd00:9::9"), Chosen: true},
		HostIP: netip.MustParseAddr("127.0.0.1"), Options: got.Options,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.Options) != 4 {
		t.Errorf("options are not kept: %v", got.Options)
	}
}

func TestNetworksThatAreRefused(t *testing.T) {
	for body, want := range map[string]string{
		`{"Name":"a b"}`:                                                                                   `invalid network name "a b": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
		`{"Name":"n","Driver":"macvlan"}`:                                                                  `Driver: "macvlan" is not supported by this version of triton: bridge is`,
		`{"Name":"n","EnableIPv4":false}`:                                                                  "EnableIPv4: false is not supported by this version of triton: every network has IPv4",
		`{"Name":"n","Scope":"swarm"}`:                                                                     `Scope: "swarm" is not supported by this version of triton: networks are those of one machine`,
		`{"Name":"n","ConfigOnly":true}`:                                                                   "ConfigOnly: true is not supported by this version of triton",
		`{"Name":"n","Options":{"com.docker.x":"1"}}`:                                                      "Options: com.docker.x is not supported by this version of triton",
		`{"Name":"n","Options":{"` + optMTU + `":"x"}}`:                                                    `Options: com.docker.network.driver.mtu: invalid value "x"`,
		`{"Name":"n","Options":{"` + optBridge + `":"a/b"}}`:                                               `Options: com.docker.network.bridge.name: "a/b": must be 1 to 15 of a-z, A-Z, 0-9, _ . and -, and not begin with tn, tu, td or tv`,
		`{"Name":"n","Options":{"` + optBridge + `":"tn12345678"}}`:                                        `Options: com.docker.network.bridge.name: "tn12345678": must be 1 to 15 of a-z, A-Z, 0-9, _ . and -, and not begin with tn, tu, td or tv`,
		`{"Name":"n","Options":{"` + optMode6 + `":"routed"}}`:                                             `Options: com.docker.network.bridge.gateway_mode_ipv6: "routed" is not supported by this version of triton: nat is`,
		`{"Name":"n","IPAM":{"Options":{"a":"b"}}}`:                                                        `IPAM.Options: {"a":"b"} is not supported by this version of triton`,
		`{"Name":"n","IPAM":{"Config":[{"Subnet":"fd00::/64"}]}}`:                                          "invalid network config:\nIPv6 subnet fd00::/64: IPv6 is not enabled for the network",
		`{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fe80::/64"}]}}`:                        "IPAM.Config.Subnet: fe80::/64: containers need addresses that are unique: neither link-local, multicast nor IPv4 ones",
		`{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"::ffff:a00:0/112"}]}}`:                 "IPAM.Config.Subnet: ::ffff:10.0.0.0/112: containers need addresses that are unique: neither link-local, multicast nor IPv4 ones",
		`{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00::1/64"}]}}`:                       "invalid network config:\ninvalid subnet fd00::1/64: it should be fd00::/64",
		`{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00::/127"}]}}`:                       "IPAM.Config.Subnet: fd00::/127: lengths of 16 to 125 are supported by this version of triton",
		`{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00::/64"},{"Subnet":"fd01::/64"}]}}`: "IPAM.Config: more than one subnet of a family is not supported by this version of triton",
		`{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.1/24"}]}}`:                                        "invalid network config:\ninvalid subnet 10.0.0.1/24: it should be 10.0.0.0/24",
		`{"Name":"n","IPAM":{"Config":[{"Gateway":"10.0.0.1"}]}}`:                                          "invalid network config:\ninvalid subnet: invalid CIDR block notation",
		`{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.1.1"}]}}`:                   "invalid network config:\ninvalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
		`{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","IPRange":"10.0.0.0/16"}]}}`:                "invalid network config:\ninvalid ip-range 10.0.0.0/16: parent subnet 10.0.0.0/24 doesn't contain ip-range",
		`{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.0/24"},{"Subnet":"10.1.0.0/24"}]}}`:               "IPAM.Config: more than one subnet of a family is not supported by this version of triton",
	} {
		_, err := netSpecFrom(body)
		got := ""
		if err != nil {
			got = messageOf(err)
		}
		if got != want || statusOf(err) != 400 {
			t.Errorf("%s: got %q (%d), want %q", body, got, statusOf(err), want)
		}
	}
}

func FuzzNetworkBody(f *testing.F) {
	f.Add([]byte(`{"Name":"n","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","IPRange":"10.9.0.128/25","Gateway":"10.9.0.9"}]},"Options":{"com.docker.network.driver.mtu":"1400"}}`))
	f.Add([]byte(`{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00::/64","Gateway":"fd00::1"},{"Subnet":"10.9.0.0/24"}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		spec, err := netSpecFrom(string(body))
		if err != nil {
			return
		}
		if spec.Chosen && (!spec.Subnet.Addr().Is4() || spec.Gateway.IsValid() && !spec.Subnet.Contains(spec.Gateway)) {
			t.Errorf("accepted %+v", spec)
		}
		if six := spec.IPv6; six != nil && six.Chosen && (!six.Subnet.Addr().Is6() || six.Gateway.IsValid() && !six.Subnet.Contains(six.Gateway)) {
			t.Errorf("accepted %+v", six)
		}
		if _, err := json.Marshal(spec); err != nil {
			t.Error(err)
		}
	})
}
