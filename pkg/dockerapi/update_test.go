package dockerapi

import (
	"testing"
)

func TestUpdateBody(t *testing.T) {
	rules := buildRules(updateRules())
	for _, tc := range []struct{ name, body, want string }{
		{"nothing", `{}`, ""},
		{"as the client sends it", `{"CpuShares":0,"Memory":8388608,"CgroupParent":"","BlkioWeightDevice":null,"Devices":null,"PidsLimit":5,
			"Ulimits":null,"OomKillDisable":null,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}`, ""},
		{"no body", ``, "invalid JSON: got EOF while reading request body"},
		{"small", `{"Memory":5}`, "Minimum memory limit allowed is 6MB"},
		{"swap alone: the memory is what the container has", `{"MemorySwap":8388608}`, ""},
		{"ulimits", `{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":1}]}`,
			`Ulimits: [{"Hard":1,"Name":"nofile","Soft":1}] is not supported by this version of triton: it can be set at create only`},
		{"devices", `{"Devices":[{"PathOnHost":"/dev/a"}]}`,
			`Devices: [{"PathOnHost":"/dev/a"}] is not supported by this version of triton: it can be set at create only`},
		{"oom", `{"OomKillDisable":true}`, "OomKillDisable: true is not supported by this version of triton: it can be set at create only"},
		{"unknown", `{"Image":"x"}`, "Image: this version of triton does not know the field"},
		{"policy", `{"RestartPolicy":{"Name":"x"}}`, "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := decodeUpdate([]byte(tc.body), rules)
			got := ""
			if err != nil {
				got = messageOf(err)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzUpdateBody(f *testing.F) {
	rules := buildRules(updateRules())
	for _, seed := range []string{`{}`, `{"Memory":8388608,"PidsLimit":-1}`, `{"RestartPolicy":{"Name":"always"}}`, `{"CpusetCpus":"0-99999999999"}`, `[`, `{"PidsLimit":1e99}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := decodeUpdate(raw, rules)
		if err == nil && u.Resources.OomKillDisable {
			t.Error("a field that update does not change came through")
		}
	})
}
