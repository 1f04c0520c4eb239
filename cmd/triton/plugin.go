package main

import "encoding/json"

const (
	// pluginName is the file name by which docker takes the client for its plugin, pluginQuestion what it asks it first.
	pluginName     = "docker-triton"
	pluginCommand  = "triton"
	pluginQuestion = "docker-cli-plugin-metadata"
)

// pluginAnswer is what docker wants to know of a plugin.
func pluginAnswer() string {
	b, err := json.Marshal(map[string]string{
		"SchemaVersion": "0.1.0", "Vendor": "Triton", "Version": version, "ShortDescription": "Show what docker has no verb for",
	})
	if err != nil {
		return ""
	}
	return string(b)
}

// ownArgs drops the command by which docker calls the plugin: "docker triton cores ls" runs "docker-triton triton cores ls".
func ownArgs(program string, args []string) []string {
	if program == pluginName && len(args) > 0 && args[0] == pluginCommand {
		return args[1:]
	}
	return args
}
