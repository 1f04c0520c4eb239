package triton

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUpdateChangesEachLimitAndNoOther(t *testing.T) {
	spec := &Spec{Resources: Resources{MemorySwap: -1, OomKillDisable: true}}
	typ := reflect.TypeFor[Resources]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if name == "PidsLimit" || name == "OomKillDisable" || name == "MemorySwappiness" { // one is a pointer besides, others are for create
			continue
		}
		u := Update{}
		want := spec.Resources
		for _, r := range []*Resources{&u.Resources, &want} {
			switch f := reflect.ValueOf(r).Elem().Field(i); f.Kind() {
			case reflect.String:
				f.SetString("0")
			case reflect.Uint16:
				f.SetUint(20)
			default:
				f.SetInt(7 << 20)
			}
		}
		if name == "Memory" { // docker's rule: together
			u.Resources.MemorySwap, want.MemorySwap = 8<<20, 8<<20
		}
		got, _, err := u.Apply(spec)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	for limit, want := range map[int64]int64{5: 5, 0: -1, -1: -1} {
		got, _, err := (&Update{PidsLimit: &limit}).Apply(&Spec{Resources: Resources{PidsLimit: 9}})
		if err != nil || got.PidsLimit != want {
			t.Errorf("pids %d: got %d, %v", limit, got.PidsLimit, err)
		}
	}
}

func TestUpdateRefusesWhatDockerRefuses(t *testing.T) {
	always := &RestartPolicy{Name: RestartAlways}
	for name, c := range map[string]struct {
		have Spec
		u    Update
		ok   bool
	}{
		"cpus after a period":    {Spec{Resources: Resources{CPUPeriod: 1000}}, Update{Resources: Resources{NanoCPUs: 1e9}}, false},
		"cpus after a quota":     {Spec{Resources: Resources{CPUQuota: 1000}}, Update{Resources: Resources{NanoCPUs: 1e9}}, false},
		"period after cpus":      {Spec{Resources: Resources{NanoCPUs: 1e9}}, Update{Resources: Resources{CPUPeriod: 1000}}, false},
		"quota after cpus":       {Spec{Resources: Resources{NanoCPUs: 1e9}}, Update{Resources: Resources{CPUQuota: 1000}}, false},
		"memory above swap":      {Spec{Resources: Resources{Memory: 1, MemorySwap: 2}}, Update{Resources: Resources{Memory: 3}}, false},
		"memory where none was":  {Spec{}, Update{Resources: Resources{Memory: 3}}, false},
		"memory below swap":      {Spec{Resources: Resources{Memory: 1, MemorySwap: 4}}, Update{Resources: Resources{Memory: 3}}, true},
		"policy with removal":    {Spec{AutoRemove: true}, Update{RestartPolicy: always}, false},
		"no policy with removal": {Spec{AutoRemove: true}, Update{RestartPolicy: &RestartPolicy{}}, true},
		"policy without removal": {Spec{}, Update{RestartPolicy: always}, true},
		"cpus where cpus were":   {Spec{Resources: Resources{NanoCPUs: 1e9}}, Update{Resources: Resources{NanoCPUs: 2e9}}, true},
		"nothing, which is fine": {Spec{RestartPolicy: *always}, Update{}, true},
	} {
		_, policy, err := c.u.Apply(&c.have)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if want := c.have.RestartPolicy; err == nil && c.u.RestartPolicy == nil && policy != want {
			t.Errorf("%s: policy became %+v", name, policy)
		}
	}
}
