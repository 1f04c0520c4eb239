// Command registry serves the distribution registry for tests: one storage directory, plain or with TLS, with or without
// basic auth. It prints the address it listens on, and must not be used for anything that is to last.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/sirupsen/logrus"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	root := flag.String("root", "", "directory of the stored images")
	htpasswd := flag.String("htpasswd", "", "file of bcrypt passwords; empty: everyone may do everything")
	cert := flag.String("cert", "", "certificate; empty: plain HTTP")
	key := flag.String("key", "", "key of the certificate")
	stdin := flag.Bool("stdin", false, "end when standard input does")
	flag.Parse()
	if *stdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	if *root == "" {
		return fmt.Errorf("-root is required")
	}
	logrus.SetLevel(logrus.FatalLevel) // what it refuses is for its clients to say
	cfg := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": *root},
			"delete":     configuration.Parameters{"enabled": true},
		},
	}
	cfg.HTTP.Secret = "for tests only"
	cfg.Log.AccessLog.Disabled = true
	cfg.Log.Level = "error"
	cfg.Catalog.MaxEntries = 1000
	if *htpasswd != "" {
		cfg.Auth = configuration.Auth{"htpasswd": configuration.Parameters{"realm": "test", "path": *htpasswd}}
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handlers.NewApp(context.Background(), cfg)}
	fmt.Println(l.Addr())
	if *cert != "" {
		return srv.ServeTLS(l, *cert, *key)
	}
	return srv.Serve(l)
}
