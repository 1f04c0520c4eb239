package dockerapi

import (
	"net/http"
	"time"

	"github.com/tritond/triton/pkg/throttle"
)

// efforts has what endpoints take that do more, or other things, than change a record. The times are about what the daemon and its shims took
// of two cores of an AMD EPYC at load 4. But what a tenant is there for, to have containers and processes in them, is charged with less
// than it takes (create 11 ms, start 47, exec 13): a container from create to remove with 10 ms.
var efforts = map[string]throttle.Effort{
	"GET /containers/json":             {Measured: true},
	"GET /containers/{id}/json":        {Measured: true},
	"GET /images/json":                 {Measured: true},
	"GET /images/{name...}/json":       {Measured: true},
	"GET /images/{name...}/history":    {Measured: true},
	"GET /networks":                    {Measured: true},
	"GET /networks/{id}":               {CPU: time.Millisecond, Waits: true}, // may make the default one
	"GET /volumes":                     {Measured: true},
	"GET /volumes/{name}":              {Measured: true},
	"GET /info":                        {Measured: true},
	"GET /exec/{id}/json":              {Measured: true},
	"POST /containers/create":          {CPU: 2 * time.Millisecond, Waits: true}, // copies what the image has into volumes
	"POST /containers/{id}/start":      {CPU: 5 * time.Millisecond, Waits: true},
	"POST /containers/{id}/stop":       {CPU: time.Millisecond, Waits: true},
	"POST /containers/{id}/restart":    {CPU: 5 * time.Millisecond, Waits: true},
	"POST /containers/{id}/kill":       {CPU: time.Millisecond, Waits: true},
	"POST /containers/{id}/pause":      {CPU: 2 * time.Millisecond},
	"POST /containers/{id}/unpause":    {CPU: 2 * time.Millisecond},
	"POST /containers/{id}/wait":       {Waits: true},
	"POST /containers/{id}/attach":     {Waits: true},
	"GET /containers/{id}/attach/ws":   {Waits: true},
	"GET /containers/{id}/logs":        {CPU: time.Millisecond, Waits: true},
	"GET /containers/{id}/stats":       {CPU: time.Millisecond, Waits: true},
	"GET /containers/{id}/top":         {CPU: 10 * time.Millisecond, Waits: true}, // runs ps
	"GET /containers/{id}/changes":     {CPU: time.Millisecond, Waits: true},
	"GET /containers/{id}/export":      {CPU: 5 * time.Millisecond, Waits: true},
	"GET /containers/{id}/archive":     {CPU: 3 * time.Millisecond, Waits: true},
	"HEAD /containers/{id}/archive":    {CPU: 3 * time.Millisecond, Waits: true},
	"PUT /containers/{id}/archive":     {CPU: 3 * time.Millisecond, Waits: true},
	"DELETE /containers/{id...}":       {CPU: 2 * time.Millisecond, Waits: true},
	"POST /containers/prune":           {CPU: 2 * time.Millisecond, Waits: true},
	"POST /exec/{id}/start":            {CPU: 5 * time.Millisecond, Waits: true},
	"POST /commit":                     {CPU: 5 * time.Millisecond, Waits: true},
	"GET /events":                      {Waits: true},
	"GET /system/df":                   {CPU: 5 * time.Millisecond, Waits: true},
	"POST /auth":                       {Waits: true}, // asks a registry, as do the next
	"GET /distribution/{name...}/json": {CPU: time.Millisecond, Waits: true},
	"GET /images/search":               {CPU: time.Millisecond, Waits: true},
	"POST /images/create":              {CPU: 5 * time.Millisecond, Waits: true},
	"POST /images/{name...}/push":      {CPU: 5 * time.Millisecond, Waits: true},
	"GET /images/get":                  {CPU: 5 * time.Millisecond, Waits: true},
	"GET /images/{name...}/get":        {CPU: 5 * time.Millisecond, Waits: true},
	"POST /images/load":                {CPU: 5 * time.Millisecond, Waits: true},
	"POST /images/prune":               {CPU: 5 * time.Millisecond, Waits: true},
	"DELETE /images/{name...}":         {CPU: 2 * time.Millisecond, Waits: true},
	"POST /networks/create":            {CPU: 10 * time.Millisecond, Waits: true},
	"DELETE /networks/{id}":            {CPU: 10 * time.Millisecond, Waits: true},
	"POST /networks/prune":             {CPU: 10 * time.Millisecond, Waits: true},
	"POST /networks/{id}/connect":      {CPU: 10 * time.Millisecond, Waits: true},
	"POST /networks/{id}/disconnect":   {CPU: 10 * time.Millisecond, Waits: true},
	"POST /volumes/create":             {CPU: 4 * time.Millisecond, Waits: true},
	"DELETE /volumes/{name}":           {CPU: 4 * time.Millisecond, Waits: true},
	"POST /volumes/prune":              {CPU: 4 * time.Millisecond, Waits: true},
	"GET /_ping":                       {},
	"HEAD /_ping":                      {},
	"GET /version":                     {},
}

// changing is what a request takes that changes a record, and tells of it.
const changing = 100 * time.Microsecond

// Effort tells what a request takes of the daemon.
func (s *Server) Effort(r *http.Request) throttle.Effort {
	_, path, _ := splitVersion(r.URL.Path)
	rt, _ := s.routes.find(r.Method, path)
	if rt == nil {
		return throttle.Effort{}
	}
	if e, ok := efforts[rt.method+" "+rt.path]; ok {
		return e
	}
	return throttle.Effort{CPU: changing}
}
