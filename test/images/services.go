package images

import "strings"

// page is what nginx serves.
const page = "<!doctype html><title>Triton</title><p>Served by nginx in a container that the kernel watches.\n"

// nginxConf is Debian's without what a container does not want: a daemon, files of logs.
const nginxConf = `user www-data;
daemon off;
worker_processes auto;
error_log stderr;
events { worker_connections 768; }
http {
	include mime.types;
	access_log off;
	sendfile on;
	server { listen 80; root /var/www/html; }
}
`

// BenchPort is where the nginx of Nginx listens with /etc/nginx/bench.conf: one worker, counts of requests
// at /status, and no port that a host may have in use.
const BenchPort = "18093"

var benchConf = strings.NewReplacer("worker_processes auto", "worker_processes 1",
	"listen 80;", "listen "+BenchPort+"; location = /status { stub_status; }").Replace(nginxConf)

// keptConf does not open the page for each request, as busy servers of static files are set up.
var keptConf = strings.Replace(benchConf, "sendfile on;", "sendfile on;\n\topen_file_cache max=16;", 1)

// Redis is Debian's redis-server, which also has redis-benchmark.
func Redis(tag string) Debian {
	return Debian{
		Tag: tag, Packages: []string{"redis-server", "busybox-static"}, Dirs: []string{"var/lib/redis"},
		Cmd:   []string{"redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/var/lib/redis"},
		Ports: []string{"6379/tcp"},
	}
}

// Nginx is Debian's nginx with one page, and the load generator wrk.
func Nginx(tag string) Debian {
	return Debian{
		Tag: tag, Packages: []string{"nginx", "wrk", "netbase", "busybox-static"},
		Files: map[string][]byte{"var/www/html/index.html": []byte(page), "etc/nginx/nginx.conf": []byte(nginxConf), "etc/nginx/bench.conf": []byte(benchConf), "etc/nginx/kept.conf": []byte(keptConf)},
		Dirs:  []string{"var/www", "var/www/html", "var/log/nginx", "var/lib/nginx"},
		Cmd:   []string{"nginx"},
		Ports: []string{"80/tcp"},
	}
}

// Python is CPython 3.13 with its standard library, of the Debian after the machine's, and one program: /srv/main.py.
func Python(tag string, program []byte) Debian {
	return Debian{
		Tag: tag, Suite: "trixie", Packages: []string{"python3.13-minimal", "libpython3.13-stdlib", "busybox-static"},
		Files: map[string][]byte{"srv/main.py": program}, Dirs: []string{"srv"}, Cmd: []string{"python3.13", "/srv/main.py"},
	}
}
