package dockerapi

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// volumesServer knows a volume that is used, two that are not, and one without a name.
func volumesServer(t *testing.T) *testServer {
	s := startServer(t)
	add := func(name string, labels map[string]string, users ...string) {
		s.b.vols = append(s.b.vols, triton.VolumeInfo{
			Key: triton.VolumeKey{Tenant: triton.DefaultTenant, Name: name}, Spec: triton.VolumeSpec{Labels: labels}, Users: users,
		})
	}
	add("used", nil, "c1")
	add("web-data", map[string]string{"app": "web"})
	add("db-data", map[string]string{"app": "db"})
	add("anon", map[string]string{triton.AnonymousLabel: "", "app": "web"})
	return s
}

func TestVolumeFilters(t *testing.T) {
	s := volumesServer(t)
	for filter, want := range map[string]string{
		``:                            "anon db-data used web-data",
		`{"dangling":["true"]}`:       "anon db-data web-data",
		`{"dangling":["0"]}`:          "used",
		`{"name":["data"]}`:           "db-data web-data",
		`{"name":["^web","used"]}`:    "used web-data",
		`{"label":["app"]}`:           "anon db-data web-data",
		`{"label":{"app=db":true}}`:   "db-data",
		`{"driver":["local"]}`:        "anon db-data used web-data",
		`{"driver":["nfs"]}`:          "",
		`{"label":["app","app=web"]}`: "anon web-data",
	} {
		r := s.do(t, "GET", "/volumes?filters="+url.QueryEscape(filter), "")
		var list struct{ Volumes []struct{ Name string } }
		if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.status != 200 || list.Volumes == nil {
			t.Fatalf("%s: %d %s", filter, r.status, r.body)
		}
		var names []string
		for _, v := range list.Volumes {
			names = append(names, v.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: got %q, want %q", filter, got, want)
		}
	}
	for _, bad := range []string{`{"until":["1h"]}`, `{"dangling":["maybe"]}`} {
		if r := s.do(t, "GET", "/volumes?filters="+url.QueryEscape(bad), ""); r.status != 400 {
			t.Errorf("%s: got %d %s, want 400", bad, r.status, r.body)
		}
	}
}

func TestPruneTakesAnonymousVolumesUnlessAskedForAll(t *testing.T) {
	for _, tc := range []struct{ version, filter, gone string }{
		{"/v1.51", ``, "anon"},
		{"/v1.51", `{"all":["true"]}`, "anon db-data web-data"},
		{"/v1.51", `{"all":["1"],"label!":["app=web"]}`, "db-data"},
		{"/v1.51", `{"label":["app=db"]}`, ""},
		{"/v1.41", ``, "anon db-data web-data"}, // before the filter all
	} {
		s := volumesServer(t)
		r := s.do(t, "POST", tc.version+"/volumes/prune?filters="+url.QueryEscape(tc.filter), "")
		var report struct {
			VolumesDeleted []string
			SpaceReclaimed int
		}
		if err := json.Unmarshal([]byte(r.body), &report); err != nil || r.status != 200 {
			t.Fatalf("%+v: %d %s", tc, r.status, r.body)
		}
		slices.Sort(report.VolumesDeleted)
		if got := strings.Join(report.VolumesDeleted, " "); got != tc.gone || report.SpaceReclaimed != 7*len(report.VolumesDeleted) {
			t.Errorf("%+v: removed %q (%d bytes)", tc, got, report.SpaceReclaimed)
		}
	}
	s := volumesServer(t)
	if r := s.do(t, "POST", "/volumes/prune?filters="+url.QueryEscape(`{"until":["1h"]}`), ""); r.status != 400 {
		t.Errorf("until: got %d %s, want 400", r.status, r.body)
	}
}

func TestForcedRemovalOfAMissingVolumeIsNoError(t *testing.T) {
	s := startServer(t)
	if r := s.do(t, "DELETE", "/volumes/nope", ""); r.status != 404 || !strings.Contains(messageIn(r), "no such volume") {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if r := s.do(t, "DELETE", "/volumes/nope?force=1", ""); r.status != 204 {
		t.Errorf("by force: got %d %s", r.status, r.body)
	}
}

func TestVolumesAreOfTheLocalDriver(t *testing.T) {
	s := startServer(t)
	r := s.do(t, "POST", "/volumes/create", `{"Name":"v","Driver":"nfs"}`)
	if want := `create v: error looking up volume plugin nfs: plugin "nfs" not found`; r.status != 404 || messageIn(r) != want {
		t.Errorf("got %d %s, want 404 %s", r.status, r.body, want)
	}
	r = s.do(t, "POST", "/volumes/create", `{"Name":"v","ClusterVolumeSpec":{"Group":"g"}}`)
	if r.status != 400 || !strings.Contains(messageIn(r), "ClusterVolumeSpec") {
		t.Errorf("cluster volume: got %d %s", r.status, r.body)
	}
	for _, bind := range []string{`{"type":"none","o":"bind","device":"/etc"}`, `{"type":"tmpfs","o":"rbind","device":"/etc"}`} {
		body := `{"Name":"v","DriverOpts":` + bind + `}`
		if r := s.do(t, "POST", "/volumes/create", body, "X-Tenant", "acme"); r.status != 403 {
			t.Errorf("a tenant's %s: got %d %s, want 403", body, r.status, r.body)
		}
	}
	body := `{"Name":"v","DriverOpts":{"type":"tmpfs","device":"tmpfs","o":"size=1m,uid=5"}}`
	if r := s.do(t, "POST", "/volumes/create", body, "X-Tenant", "acme"); r.status != 201 {
		t.Errorf("a tenant's tmpfs: got %d %s", r.status, r.body)
	}
}

func TestVolumesFromTakesMountsOver(t *testing.T) {
	others := map[string][]triton.Mount{
		"one": {
			{Type: triton.MountVolume, Source: "a", Target: "/a", Bind: "a:/a"}, {Type: triton.MountBind, Source: "/h", Target: "/h", CreateSource: true},
			{Type: triton.MountTmpfs, Target: "/t"}, {Type: triton.MountVolume, Source: "own", Target: "/mine"},
		},
		"two": {{Type: triton.MountVolume, Source: "b", Target: "/a", Anonymous: true, Declared: true}},
	}
	find := func(ref string) ([]triton.Mount, error) { return others[ref], nil }
	spec := triton.Spec{VolumesFrom: []string{"one:ro", "two"}, Mounts: []triton.Mount{{Type: triton.MountBind, Source: "/x", Target: "/mine"}}}
	if err := inheritMounts(&spec, find); err != nil {
		t.Fatal(err)
	}
	want := []triton.Mount{
		{Type: triton.MountBind, Source: "/x", Target: "/mine"},
		{Type: triton.MountBind, Source: "/h", Target: "/h", ReadOnly: true, Inherited: true},
		{Type: triton.MountVolume, Source: "b", Target: "/a", Anonymous: true, Inherited: true},
	}
	if diff := cmp.Diff(want, spec.Mounts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", ":ro", "one:nocopy", "one:rshared", "one:ro,rw"} {
		if err := inheritMounts(&triton.Spec{VolumesFrom: []string{bad}}, find); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestUntilZeroIsTheBeginningOfTime(t *testing.T) {
	s := startServer(t)
	s.made(t, "default", "/networks/create", `{"Name":"old"}`)
	r := s.do(t, "POST", "/networks/prune?filters="+url.QueryEscape(`{"until":["0"]}`), "")
	if r.status != 200 || strings.Contains(r.body, "old") {
		t.Errorf("until=0 pruned: %d %s", r.status, r.body)
	}
	r = s.do(t, "POST", "/networks/prune?filters="+url.QueryEscape(`{"until":["0s"]}`), "")
	if r.status != 200 || !strings.Contains(r.body, "old") {
		t.Errorf("until=0s pruned nothing: %d %s", r.status, r.body)
	}
}

func TestCreateBodyWithVolumes(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"volume", `{"Image":"i","HostConfig":{"Binds":["v:/b:nocopy,ro,z"]}}`, ""},
		{"volume without a name", `{"Image":"i","HostConfig":{"Binds":["/b"]}}`, ""},
		{"propagation of a volume", `{"Image":"i","HostConfig":{"Binds":["v:/b:rshared"]}}`, "invalid mode: rshared"},
		{"copy of a bind", `{"Image":"i","HostConfig":{"Binds":["/a:/b:nocopy"]}}`, "invalid mode: nocopy"},
		{"declared root", `{"Image":"i","Volumes":{"/":{}}}`,
			`invalid volume specification: '/': invalid mount config for type "volume": invalid specification: destination can't be '/'`},
		{"declared pair", `{"Image":"i","Volumes":{"/a:/b":{}}}`, "invalid volume specification: '/a:/b'"},
		{"relative volume", `{"Image":"i","Volumes":{"a":{}}}`,
			`invalid volume specification: 'a': invalid mount config for type "volume": invalid mount path: 'a' mount path must be absolute`},
		{"read-only without a name", `{"Image":"i","HostConfig":{"Mounts":[{"Type":"volume","Target":"/v","ReadOnly":true}]}}`,
			"HostConfig.Mounts[0]: must not set ReadOnly mode when using anonymous volumes"},
		{"subpath outside", `{"Image":"i","HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/v","VolumeOptions":{"Subpath":"a/../../b"}}]}}`,
			"HostConfig.Mounts[0]: subpath must be a relative path within the volume"},
		{"options of another type", `{"Image":"i","HostConfig":{"Mounts":[{"Type":"bind","Source":"/v","Target":"/v","VolumeOptions":{"NoCopy":true}}]}}`,
			`HostConfig.Mounts[0]: VolumeOptions must not be specified on mount type "bind"`},
		{"other driver", `{"Image":"i","HostConfig":{"VolumeDriver":"nfs"}}`, `HostConfig.VolumeDriver: "nfs" is not supported by this version of triton: local is the only volume driver`},
	} {
		got := ""
		if _, err := specFrom(t, tc.body); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}
