package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/dashboard"
	"github.com/tritond/triton/pkg/triton"
)

// pageLogin is who may see the page: whoever can read a file in the run root, which root alone can, is the operator. The
// token stays over restarts of the daemon, so that an open page comes back by itself; a reboot ends it with the run root.
type pageLogin struct{ token string }

const (
	pageLoginFile = "page-login"
	pageCookie    = "triton"
)

// openPageLogin reads the token, or makes one. The file holds the link that signs a browser in.
func openPageLogin(runRoot, address string) (*pageLogin, error) {
	path := filepath.Join(runRoot, pageLoginFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	_, token, _ := strings.Cut(strings.TrimSpace(string(old)), "#login=")
	if b, err := hex.DecodeString(token); err != nil || len(b) != 32 {
		b := make([]byte, 32)
		rand.Read(b) // never fails
		token = hex.EncodeToString(b)
	}
	link := "http://" + address + "/#login=" + token + "\n"
	if link == string(old) {
		return &pageLogin{token}, nil
	}
	if err := os.WriteFile(path+".new", []byte(link), 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &pageLogin{token}, nil
}

// session is the cookie's value: it does not tell the token.
func (p *pageLogin) session() string {
	m := hmac.New(sha256.New, []byte(p.token))
	m.Write([]byte("page session"))
	return hex.EncodeToString(m.Sum(nil))
}

var errSignIn = errors.New("sign in first")

// caller implements dashboard.Config.Caller: by the cookie, or by the token as a bearer.
func (p *pageLogin) caller(r *http.Request) (dashboard.Caller, error) {
	who := dashboard.Caller{Name: "operator", Tenant: triton.DefaultTenant, Exec: true}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if hmac.Equal([]byte(bearer), []byte(p.token)) {
			return who, nil
		}
		return dashboard.Caller{}, errSignIn
	}
	who.Ambient = true
	if c, err := r.Cookie(pageCookie); err == nil && hmac.Equal([]byte(c.Value), []byte(p.session())) {
		return who, nil
	}
	return dashboard.Caller{}, errSignIn
}

// login exchanges the token of a login link for a cookie.
func (p *pageLogin) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&body); err != nil {
		http.Error(w, "this is no login", http.StatusBadRequest)
		return
	}
	if !hmac.Equal([]byte(body.Token), []byte(p.token)) {
		http.Error(w, "this token is not, or no longer, valid", http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: pageCookie, Value: p.session(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
		MaxAge: int((30 * 24 * time.Hour).Seconds()),
	})
	w.WriteHeader(http.StatusNoContent)
}
