package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

// resolves asks the container's own resolver for a name.
func (u *under) resolves(t *testing.T, from, name string) string {
	t.Helper()
	out := u.docker(t, "exec", from, "nslookup", name).Stdout
	_, answer, _ := strings.Cut(out, "\n\n") // behind the server's own address
	return answer
}

func TestNamesOfANetwork(t *testing.T) {
	u := shared(t)
	one, two := u.network(t), u.network(t)
	web := u.detached(t, "--network", one, "--network-alias", "www", "--hostname", "webhost", images.Programs, "httpd80")
	ask := u.detached(t, "--network", one, "--link", web+":linked", images.Busybox, "sleep", "1000")
	stranger := u.detached(t, "--network", two, images.Busybox, "sleep", "1000")
	ip := u.addressIn(t, web, one)
	matches(t, "resolv.conf", u.ok(t, "exec", ask, "cat", "/etc/resolv.conf"), `(?m)^nameserver 127\.0\.0\.11$`)
	for _, name := range []string{web, "www", "WWW", "linked", u.inspect(t, web, "{{.Id}}")[:12], web + "." + one} {
		matches(t, name, u.resolves(t, ask, name), strings.ReplaceAll(ip, ".", `\.`)+`\b`)
	}
	matches(t, "server", u.docker(t, "exec", ask, "nslookup", "www").Stdout, `Address:\s+127\.0\.0\.11`)
	matches(t, "reverse", u.resolves(t, ask, ip), web+`\.`+one)
	equal(t, "by name", u.ok(t, "exec", ask, "wget", "-qO-", "http://www/"), "webhost")
	for _, name := range []string{web, "www"} {
		if got := u.resolves(t, stranger, name); strings.Contains(got, ip) {
			t.Errorf("%s is known in another network: %s", name, got)
		}
	}
	// A name is known from the start to the end, and after a hot connect.
	u.ok(t, "network", "connect", "--alias", "second", two, web)
	matches(t, "after connect", u.resolves(t, stranger, "second"), strings.ReplaceAll(u.addressIn(t, web, two), ".", `\.`))
	u.ok(t, "network", "disconnect", two, web)
	if got := u.docker(t, "exec", stranger, "nslookup", "second"); got.Code == 0 && strings.Contains(got.Stdout, "Name:") {
		t.Errorf("still known after disconnect: %s", got.Stdout)
	}
	u.ok(t, "stop", "-t", "0", web)
	if got := u.resolves(t, ask, "www"); strings.Contains(got, ip) {
		t.Errorf("still known after its stop: %s", got)
	}
}

func TestDefaultNetworkKnowsLinksOnly(t *testing.T) {
	u := shared(t)
	db := u.detached(t, "--hostname", "dbhost", images.Programs, "httpd80")
	linked := u.detached(t, "--link", db+":database", images.Busybox, "sleep", "1000")
	plain := u.detached(t, images.Busybox, "sleep", "1000")
	matches(t, "hosts", u.ok(t, "exec", linked, "cat", "/etc/hosts"), `(?m)^`+u.address(t, db)+`\tdatabase dbhost `+db+`$`)
	equal(t, "by link", u.ok(t, "exec", linked, "wget", "-qO-", "http://database/"), "dbhost")
	if strings.Contains(u.ok(t, "exec", plain, "cat", "/etc/resolv.conf"), "127.0.0.11") {
		t.Error("the default network has the embedded resolver")
	}
	u.fails(t, 125, "(?i)could not get container|no such container", "run", "--rm", "--link", "nosuch:x", images.True)
	u.ok(t, "stop", "-t", "0", db)
	u.fails(t, 125, "Cannot link to a non running container", "run", "--rm", "--link", db, images.True)
}

func TestNamesComeBackWithTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	u.ok(t, "network", "create", "mine")
	u.ok(t, "run", "-d", "--name", "web", "--network", "mine", images.Programs, "httpd80")
	u.ok(t, "run", "-d", "--name", "ask", "--network", "mine", images.Busybox, "sleep", "1000")
	ip := u.addressIn(t, "web", "mine")
	matches(t, "before", u.resolves(t, "ask", "web"), ip)
	u.kill(t)
	u.restart(t)
	eventually(t, 10*time.Second, "names are answered again", func() bool { return strings.Contains(u.resolves(t, "ask", "web"), ip) })
	u.ok(t, "rm", "-f", "web", "ask")
	u.ok(t, "network", "rm", "mine")
}
