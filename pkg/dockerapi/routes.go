package dockerapi

import (
	"context"
	"strings"
)

// A route is one endpoint. Its path has fixed segments, {name} for one segment and {name...} for one or more (image
// names contain slashes).
type route struct {
	method, path string
	group        group
	handle       handler
}

// group says what part of the API an endpoint belongs to, and how it is answered when there is no handler.
type group string

const (
	groupCore       group = "core"       // system, containers, exec, images, networks, volumes
	groupBuild      group = "build"      // builder and BuildKit sessions
	groupSwarm      group = "swarm"      // answers as a docker that is in no swarm
	groupPlugin     group = "plugin"     // there are none
	groupExperiment group = "experiment" // not in the API's definition
)

// routeTable lists every endpoint of API 1.56's definition and the few that are in none. A row without a handler
// answers as its group does.
func routeTable() []route {
	var all []route
	for _, part := range [][]route{systemRoutes(), containerRoutes(), imageRoutes(), storageRoutes(), buildRoutes(), pluginRoutes(), swarmRoutes()} {
		all = append(all, part...)
	}
	for i := range all {
		if all[i].handle == nil {
			all[i].handle = absent(all[i])
		}
	}
	return all
}

func systemRoutes() []route {
	return []route{
		{"GET", "/_ping", groupCore, (*Server).ping},
		{"HEAD", "/_ping", groupCore, (*Server).ping},
		{"GET", "/version", groupCore, (*Server).versionInfo},
		{"GET", "/info", groupCore, (*Server).info},
		{"GET", "/events", groupCore, (*Server).events},
		{"GET", "/system/df", groupCore, (*Server).diskUsage},
		{"POST", "/auth", groupCore, (*Server).loginRegistry},
		{"GET", "/distribution/{name...}/json", groupCore, (*Server).inspectDistribution},
		{"GET", "/debug/{path...}", groupExperiment, nil},
		{"OPTIONS", "/{path...}", groupCore, (*Server).options},
	}
}

func containerRoutes() []route {
	return []route{
		{"GET", "/containers/json", groupCore, (*Server).listContainers},
		{"POST", "/containers/create", groupCore, (*Server).createContainer},
		{"POST", "/containers/prune", groupCore, (*Server).pruneContainers},
		{"GET", "/containers/{id}/json", groupCore, (*Server).inspectContainer},
		{"GET", "/containers/{id}/top", groupCore, (*Server).topContainer},
		{"GET", "/containers/{id}/logs", groupCore, (*Server).containerLogs},
		{"GET", "/containers/{id}/changes", groupCore, (*Server).containerChanges},
		{"GET", "/containers/{id}/export", groupCore, (*Server).exportContainer},
		{"GET", "/containers/{id}/stats", groupCore, (*Server).containerStats},
		{"POST", "/containers/{id}/resize", groupCore, (*Server).resizeContainer},
		{"POST", "/containers/{id}/start", groupCore, (*Server).startContainer},
		{"POST", "/containers/{id}/stop", groupCore, (*Server).stopContainer},
		{"POST", "/containers/{id}/restart", groupCore, (*Server).restartContainer},
		{"POST", "/containers/{id}/kill", groupCore, (*Server).killContainer},
		{"POST", "/containers/{id}/update", groupCore, (*Server).updateContainer},
		{"POST", "/containers/{id}/rename", groupCore, (*Server).renameContainer},
		{"POST", "/containers/{id}/pause", groupCore, (*Server).pauseContainer},
		{"POST", "/containers/{id}/unpause", groupCore, (*Server).unpauseContainer},
		{"POST", "/containers/{id}/attach", groupCore, (*Server).attachContainer},
		{"GET", "/containers/{id}/attach/ws", groupCore, (*Server).attachWebsocket},
		{"POST", "/containers/{id}/wait", groupCore, (*Server).waitContainer},
		{"HEAD", "/containers/{id}/archive", groupCore, (*Server).statArchive},
		{"GET", "/containers/{id}/archive", groupCore, (*Server).getArchive},
		{"PUT", "/containers/{id}/archive", groupCore, (*Server).putArchive},
		{"GET", "/containers/{id}/checkpoints", groupExperiment, nil},
		{"POST", "/containers/{id}/checkpoints", groupExperiment, nil},
		{"DELETE", "/containers/{id}/checkpoints/{checkpoint}", groupExperiment, nil},
		{"DELETE", "/containers/{id...}", groupCore, (*Server).removeContainer}, // {id...}: a link is container/alias
		{"POST", "/containers/{id}/exec", groupCore, (*Server).createExec},
		{"POST", "/exec/{id}/start", groupCore, (*Server).startExec},
		{"POST", "/exec/{id}/resize", groupCore, (*Server).resizeExec},
		{"GET", "/exec/{id}/json", groupCore, (*Server).inspectExec},
		{"POST", "/commit", groupCore, (*Server).commitContainer},
	}
}

func imageRoutes() []route {
	return []route{
		{"GET", "/images/json", groupCore, (*Server).listImages},
		{"GET", "/images/search", groupCore, (*Server).searchImages},
		{"GET", "/images/get", groupCore, (*Server).saveImages},
		{"POST", "/images/load", groupCore, (*Server).loadImages},
		{"POST", "/images/create", groupCore, (*Server).makeImage},
		{"POST", "/images/prune", groupCore, (*Server).pruneImages},
		{"GET", "/images/{name...}/json", groupCore, (*Server).inspectImage},
		{"GET", "/images/{name...}/attestations", groupCore, nil},
		{"GET", "/images/{name...}/history", groupCore, (*Server).imageHistory},
		{"GET", "/images/{name...}/get", groupCore, (*Server).saveImages},
		{"POST", "/images/{name...}/push", groupCore, (*Server).pushImage},
		{"POST", "/images/{name...}/tag", groupCore, (*Server).tagImage},
		{"DELETE", "/images/{name...}", groupCore, (*Server).removeImage},
	}
}

func storageRoutes() []route {
	return []route{
		{"GET", "/volumes", groupCore, (*Server).listVolumes},
		{"POST", "/volumes/create", groupCore, (*Server).createVolume},
		{"POST", "/volumes/prune", groupCore, (*Server).pruneVolumes},
		{"GET", "/volumes/{name}", groupCore, (*Server).inspectVolume},
		{"PUT", "/volumes/{name}", groupSwarm, nil},
		{"DELETE", "/volumes/{name}", groupCore, (*Server).removeVolume},
		{"GET", "/networks", groupCore, (*Server).listNetworks},
		{"GET", "/networks/{id}", groupCore, (*Server).inspectNetwork},
		{"DELETE", "/networks/{id}", groupCore, (*Server).removeNetwork},
		{"POST", "/networks/create", groupCore, (*Server).createNetwork},
		{"POST", "/networks/prune", groupCore, (*Server).pruneNetworks},
		{"POST", "/networks/{id}/connect", groupCore, (*Server).connectNetwork},
		{"POST", "/networks/{id}/disconnect", groupCore, (*Server).disconnectNetwork},
	}
}

func buildRoutes() []route {
	return []route{
		{"POST", "/build", groupBuild, nil},
		{"POST", "/build/prune", groupBuild, (*Server).pruneBuilds},
		{"POST", "/session", groupBuild, nil},
		{"POST", "/grpc", groupBuild, nil},
	}
}

func pluginRoutes() []route {
	return []route{
		{"GET", "/plugins", groupPlugin, (*Server).listPlugins},
		{"GET", "/plugins/privileges", groupPlugin, nil},
		{"POST", "/plugins/pull", groupPlugin, nil},
		{"POST", "/plugins/create", groupPlugin, nil},
		{"GET", "/plugins/{name...}/json", groupPlugin, nil},
		{"DELETE", "/plugins/{name...}", groupPlugin, nil},
		{"POST", "/plugins/{name...}/enable", groupPlugin, nil},
		{"POST", "/plugins/{name...}/disable", groupPlugin, nil},
		{"POST", "/plugins/{name...}/upgrade", groupPlugin, nil},
		{"POST", "/plugins/{name...}/push", groupPlugin, nil},
		{"POST", "/plugins/{name...}/set", groupPlugin, nil},
	}
}

func swarmRoutes() []route {
	rows := []route{
		// Docker's text tells the user to call these two, so they must not answer with it.
		{"POST", "/swarm/init", groupCore, nil},
		{"POST", "/swarm/join", groupCore, nil},
	}
	for _, endpoint := range []string{
		"GET /swarm", "POST /swarm/leave", "POST /swarm/update", "GET /swarm/unlockkey", "POST /swarm/unlock",
		"GET /nodes", "GET /nodes/{id}", "DELETE /nodes/{id}", "POST /nodes/{id}/update",
		"GET /services", "POST /services/create", "GET /services/{id}", "DELETE /services/{id}",
		"POST /services/{id}/update", "GET /services/{id}/logs",
		"GET /tasks", "GET /tasks/{id}", "GET /tasks/{id}/logs",
		"GET /secrets", "POST /secrets/create", "GET /secrets/{id}", "DELETE /secrets/{id}", "POST /secrets/{id}/update",
		"GET /configs", "POST /configs/create", "GET /configs/{id}", "DELETE /configs/{id}", "POST /configs/{id}/update",
	} {
		method, path, _ := strings.Cut(endpoint, " ")
		rows = append(rows, route{method, path, groupSwarm, nil})
	}
	return rows
}

// absent answers for an endpoint that is not built.
func absent(r route) handler {
	if r.group == groupSwarm {
		return func(*Server, context.Context, *call) error {
			return unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
		}
	}
	return func(*Server, context.Context, *call) error {
		return notBuilt("%s %s is not supported by this version of triton", r.method, r.path)
	}
}

// routeIndex finds a route. Fixed segments win over {name}, and {name} over {name...}; among equals the first row.
type routeIndex struct{ rows map[string][]indexed }

type indexed struct {
	route
	segments []string
}

// indexRoutes keys the rows by method and first segment: a dozen rows are left to compare.
func indexRoutes(table []route) *routeIndex {
	idx := &routeIndex{rows: make(map[string][]indexed)}
	for _, r := range table {
		segments := strings.Split(r.path[1:], "/")
		key := r.method + " " + segments[0]
		if strings.HasPrefix(segments[0], "{") {
			key = r.method
		}
		idx.rows[key] = append(idx.rows[key], indexed{r, segments})
	}
	return idx
}

func (idx *routeIndex) find(method, path string) (*route, map[string]string) {
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, nil
	}
	segments := strings.Split(path, "/")
	for _, key := range []string{method + " " + segments[0], method} {
		rows := idx.rows[key]
		for i := range rows {
			if vars, ok := match(rows[i].segments, segments); ok {
				return &rows[i].route, vars
			}
		}
	}
	return nil, nil
}

// match compares a path with a pattern. A {name...} takes as many segments as leave one for each that follows it.
func match(pattern, segments []string) (map[string]string, bool) {
	if len(segments) < len(pattern) {
		return nil, false
	}
	var vars map[string]string
	at := 0
	for _, p := range pattern {
		take := 1
		name, isVar := strings.CutPrefix(p, "{")
		if isVar {
			name = strings.TrimSuffix(name, "}")
			if rest, many := strings.CutSuffix(name, "..."); many {
				name, take = rest, len(segments)-len(pattern)+1
			}
			if vars == nil {
				vars = make(map[string]string, 2)
			}
			vars[name] = strings.Join(segments[at:at+take], "/")
			if vars[name] == "" {
				return nil, false
			}
		} else if p != segments[at] {
			return nil, false
		}
		at += take
	}
	return vars, at == len(segments)
}
