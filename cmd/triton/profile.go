package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// takeProfile is `triton profile [-d TIME] [--off-cpu] [-o FILE] CONTAINER`: it writes what the container's tasks were busy
// with, or waited for, in pprof's form. A file that is there is written over, as other profilers do.
func takeProfile(ctx context.Context, c *client, args []string, out io.Writer) (err error) {
	fs := newFlags("profile")
	during := fs.Duration("d", 10*time.Second, "")
	name := fs.String("o", "", "")
	off := fs.Bool("off-cpu", false, "")
	ref, err := oneBetween(fs, args)
	if err != nil || *during <= 0 {
		return usageError("profile [-d TIME] [--off-cpu] [-o FILE] CONTAINER: FILE is cpu.pprof or off-cpu.pprof, - is the output")
	}
	kind := "cpu"
	if *off {
		kind = "off-cpu"
	}
	if *name == "" {
		*name = kind + ".pprof"
	}
	q := url.Values{"kind": {kind}, "seconds": {strconv.FormatFloat(during.Seconds(), 'f', -1, 64)}}
	resp, err := c.send(ctx, http.MethodGet, wire.ProfilePath(ref)+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if *name == "-" {
		_, err := io.Copy(out, resp.Body)
		return err
	}
	f, err := os.Create(*name)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, resp.Body); err != nil {
		return errors.Join(err, f.Close(), os.Remove(*name))
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", *name, resp.Header.Get(wire.ProfileHeader))
	return nil
}
