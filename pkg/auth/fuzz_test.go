package auth

import (
	"net/http"
	"strings"
	"testing"
)

func FuzzBearer(f *testing.F) {
	good, _ := newSecret(tokenPrefix)
	for _, s := range []string{"", "Bearer", "Bearer ", "bearer " + good, "Bearer " + good + "=", "Basic x", "Bearer triton_t_" + strings.Repeat("\x00", 43)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseBearer([]string{s})
		if (err == nil) != (len(id) == 64) {
			t.Fatalf("%q: id %q, error %v", s, id, err)
		}
		if err != nil && len(s) > 30 && strings.Contains(err.Error(), s[len("Bearer "):]) {
			t.Fatalf("the error repeats what may be a secret: %v", err)
		}
	})
}

func FuzzCookie(f *testing.F) {
	good, _ := newSecret(sessionPrefix)
	for _, s := range []string{"triton-main=" + good, "triton-main=", "a=b; triton-main=" + good, "triton-main=x; triton-main=y", "\x00;=;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &http.Request{Header: http.Header{"Cookie": {s}}}
		ck, err := r.Cookie("triton-main")
		if err != nil {
			return
		}
		if id, err := parseSecret(sessionPrefix, ck.Value); err == nil && id != secretID(ck.Value) {
			t.Fatalf("%q got id %s", s, id)
		}
	})
}

// FuzzCredential: what is read from the store is itself again, or refused.
func FuzzCredential(f *testing.F) {
	f.Add("ab", []byte(`{"id":"ab","kind":"token","tenant":"alice","role":"tenant","name":"ci"}`))
	f.Add("ab", []byte(`{"id":"ab","kind":"token","tenant":"alice","role":"operator","name":"ci"}`))
	f.Add("ab", []byte(`{`))
	f.Fuzz(func(t *testing.T, id string, b []byte) {
		c, err := decodeCredential(id, b)
		if err == nil && (c.ID != id || c.validate() != nil) {
			t.Fatalf("took %+v", c)
		}
	})
}
