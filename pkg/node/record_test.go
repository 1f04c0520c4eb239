package node

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func FuzzDecodeRecord(f *testing.F) {
	id := strings.Repeat("ab", 32)
	good, err := json.Marshal(Record{Key: triton.ContainerKey{Tenant: "default", ID: id}, Name: "web"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("/triton/tenants/default/containers/"+id, good)
	f.Add("/triton/tenants/other/containers/"+id, good)
	f.Add("/triton/tenants/default/containers/"+id, []byte(`{"key":{"tenant":"../x"}}`))
	f.Add("/triton/tenants/default/containers/"+id, []byte(`{`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var r Record
		if err := decodeRecord(key, value, &r); err != nil {
			return
		}
		if containerPath(r.Key) != key {
			t.Errorf("record of %+v accepted under %q", r.Key, key)
		}
		if strings.ContainsAny(string(r.Key.Tenant)+r.Key.ID, "/.") {
			t.Errorf("key %+v can leave its directory", r.Key)
		}
	})
}

func TestDecodeRecordRefusesAForeignKey(t *testing.T) {
	id := strings.Repeat("ab", 32)
	b, err := json.Marshal(Record{Key: triton.ContainerKey{Tenant: "a", ID: id}})
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := decodeRecord("/triton/tenants/b/containers/"+id, b, &r); err == nil {
		t.Error("a record of tenant a was accepted under tenant b")
	}
	if err := decodeRecord("/triton/tenants/a/containers/"+id, b, &r); err != nil {
		t.Errorf("own record: %v", err)
	}
}
