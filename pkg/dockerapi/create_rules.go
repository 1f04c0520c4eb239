package dockerapi

// createRules says what becomes of each field of POST /containers/create: of container.Config (at the top),
// container.HostConfig, network.NetworkingConfig and of fields that only older clients send.
// What mapped fields become is in create_spec.go and create_host.go; a test gives each a value and sees it arrive.
func createRules() ruleTable {
	t := ruleTable{}
	for _, part := range []ruleTable{configRules(), hostRules(), resourceRules(), mountRules(), networkingRules()} {
		for path, r := range part {
			t[path] = r
		}
	}
	return t
}

func configRules() ruleTable {
	return ruleTable{
		"Hostname":        {kind: mapped},
		"Domainname":      {kind: mapped},
		"User":            {kind: mapped},
		"AttachStdin":     {kind: mapped},
		"AttachStdout":    {kind: mapped},
		"AttachStderr":    {kind: mapped},
		"ExposedPorts":    {kind: mapped},
		"Tty":             {kind: mapped},
		"OpenStdin":       {kind: mapped},
		"StdinOnce":       {kind: mapped},
		"Env":             {kind: mapped},
		"Cmd":             {kind: mapped},
		"Image":           {kind: mapped},
		"WorkingDir":      {kind: mapped},
		"Entrypoint":      {kind: mapped},
		"Labels":          {kind: mapped},
		"StopSignal":      {kind: mapped},
		"StopTimeout":     {kind: mapped},
		"ArgsEscaped":     {kind: harmless, why: "Windows only"},
		"OnBuild":         {kind: harmless, why: "acts when an image is built from the container's image, never on the container"},
		"Shell":           {kind: mapped},
		"Volumes":         {kind: mapped},
		"NetworkDisabled": {kind: mapped},
		"MacAddress":      {kind: mapped}, // API 1.43 and older
		// dockerode puts the parameters of the URL into the body as well.
		"name":                      {kind: harmless, why: "the parameter of the URL counts"},
		"platform":                  {kind: harmless, why: "the parameter of the URL counts"},
		"Healthcheck.Test":          {kind: mapped},
		"Healthcheck.Interval":      {kind: mapped},
		"Healthcheck.Timeout":       {kind: mapped},
		"Healthcheck.Retries":       {kind: mapped},
		"Healthcheck.StartPeriod":   {kind: mapped},
		"Healthcheck.StartInterval": {kind: mapped},
	}
}

func hostRules() ruleTable {
	return ruleTable{
		"HostConfig.Binds":                           {kind: mapped},
		"HostConfig.LogConfig.Type":                  {kind: mapped},
		"HostConfig.LogConfig.Config":                {kind: mapped},
		"HostConfig.NetworkMode":                     {kind: mapped},
		"HostConfig.AutoRemove":                      {kind: mapped},
		"HostConfig.ConsoleSize":                     {kind: mapped},
		"HostConfig.CapAdd":                          {kind: mapped},
		"HostConfig.CapDrop":                         {kind: mapped},
		"HostConfig.CgroupnsMode":                    {kind: mapped},
		"HostConfig.Dns":                             {kind: mapped},
		"HostConfig.DnsOptions":                      {kind: mapped},
		"HostConfig.DnsSearch":                       {kind: mapped},
		"HostConfig.ExtraHosts":                      {kind: mapped},
		"HostConfig.GroupAdd":                        {kind: mapped},
		"HostConfig.IpcMode":                         {kind: mapped},
		"HostConfig.OomScoreAdj":                     {kind: mapped},
		"HostConfig.PidMode":                         {kind: mapped},
		"HostConfig.Privileged":                      {kind: mapped},
		"HostConfig.ReadonlyRootfs":                  {kind: mapped},
		"HostConfig.SecurityOpt":                     {kind: mapped},
		"HostConfig.Tmpfs":                           {kind: mapped},
		"HostConfig.UTSMode":                         {kind: mapped},
		"HostConfig.UsernsMode":                      {kind: mapped},
		"HostConfig.ShmSize":                         {kind: mapped},
		"HostConfig.Sysctls":                         {kind: mapped},
		"HostConfig.MaskedPaths":                     {kind: mapped},
		"HostConfig.ReadonlyPaths":                   {kind: mapped},
		"HostConfig.ContainerIDFile":                 {kind: mapped},
		"HostConfig.PortBindings":                    {kind: mapped},
		"HostConfig.PublishAllPorts":                 {kind: mapped},
		"HostConfig.RestartPolicy.Name":              {kind: mapped},
		"HostConfig.RestartPolicy.MaximumRetryCount": {kind: mapped},
		"HostConfig.VolumeDriver":                    {kind: refused, also: []string{`"local"`}, why: "local is the only volume driver"},
		"HostConfig.VolumesFrom":                     {kind: mapped},
		"HostConfig.Annotations":                     {kind: mapped},
		"HostConfig.Cgroup":                          {kind: refused, why: "docker takes it and ignores it"},
		"HostConfig.Links":                           {kind: mapped},
		"HostConfig.StorageOpt":                      {kind: refused, why: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"},
		"HostConfig.Runtime":                         {kind: refused, also: []string{`"runc"`}, why: "there is one runtime, called runc"},
		"HostConfig.Umask":                           {kind: refused},
		"HostConfig.Isolation":                       {kind: refused, also: []string{`"default"`}},
		"HostConfig.Init":                            {kind: mapped},
	}
}

func resourceRules() ruleTable {
	const noRealtime = "containers have no realtime budget; dockerd has none either without --cpu-rt-runtime"
	return ruleTable{
		"HostConfig.CpuShares":                   {kind: mapped},
		"HostConfig.Memory":                      {kind: mapped},
		"HostConfig.NanoCpus":                    {kind: mapped},
		"HostConfig.BlkioWeight":                 {kind: mapped},
		"HostConfig.CpuPeriod":                   {kind: mapped},
		"HostConfig.CpuQuota":                    {kind: mapped},
		"HostConfig.CpusetCpus":                  {kind: mapped},
		"HostConfig.CpusetMems":                  {kind: mapped},
		"HostConfig.MemoryReservation":           {kind: mapped},
		"HostConfig.MemorySwap":                  {kind: mapped},
		"HostConfig.OomKillDisable":              {kind: mapped},
		"HostConfig.PidsLimit":                   {kind: mapped},
		"HostConfig.Devices[].PathOnHost":        {kind: mapped},
		"HostConfig.Devices[].PathInContainer":   {kind: mapped},
		"HostConfig.Devices[].CgroupPermissions": {kind: mapped},
		"HostConfig.Ulimits[].Name":              {kind: mapped},
		"HostConfig.Ulimits[].Soft":              {kind: mapped},
		"HostConfig.Ulimits[].Hard":              {kind: mapped},
		"HostConfig.CgroupParent":                {kind: refused, why: "what is measured and removed goes by the tree of control groups, which is triton's"},
		"HostConfig.BlkioWeightDevice[].Path":    {kind: mapped},
		"HostConfig.BlkioWeightDevice[].Weight":  {kind: mapped},
		"HostConfig.BlkioDeviceReadBps[].Path":   {kind: mapped},
		"HostConfig.BlkioDeviceReadBps[].Rate":   {kind: mapped},
		"HostConfig.BlkioDeviceWriteBps[].Path":  {kind: mapped},
		"HostConfig.BlkioDeviceWriteBps[].Rate":  {kind: mapped},
		"HostConfig.BlkioDeviceReadIOps[].Path":  {kind: mapped},
		"HostConfig.BlkioDeviceReadIOps[].Rate":  {kind: mapped},
		"HostConfig.BlkioDeviceWriteIOps[].Path": {kind: mapped},
		"HostConfig.BlkioDeviceWriteIOps[].Rate": {kind: mapped},
		"HostConfig.CpuRealtimePeriod":           {kind: refused, why: noRealtime},
		"HostConfig.CpuRealtimeRuntime":          {kind: refused, why: noRealtime},
		"HostConfig.DeviceCgroupRules":           {kind: mapped},
		"HostConfig.DeviceRequests":              {kind: answered, why: "no device driver is there, as in a docker without any"},
		"HostConfig.MemorySwappiness":            {kind: mapped},
		"HostConfig.CpuCount":                    {kind: refused, why: "Windows only"},
		"HostConfig.CpuPercent":                  {kind: refused, why: "Windows only"},
		"HostConfig.IOMaximumIOps":               {kind: refused, why: "Windows only"},
		"HostConfig.IOMaximumBandwidth":          {kind: refused, why: "Windows only"},
		// Older clients only: the types no longer have these.
		"HostConfig.KernelMemory":    {kind: refused, why: "removed from docker"},
		"HostConfig.KernelMemoryTCP": {kind: refused, why: "removed from docker"},
	}
}

func mountRules() ruleTable {
	const at = "HostConfig.Mounts[]."
	return ruleTable{
		at + "Type":                               {kind: mapped},
		at + "Source":                             {kind: mapped},
		at + "Target":                             {kind: mapped},
		at + "ReadOnly":                           {kind: mapped},
		at + "Consistency":                        {kind: harmless, why: "macOS only"},
		at + "BindOptions.Propagation":            {kind: mapped},
		at + "BindOptions.NonRecursive":           {kind: mapped},
		at + "BindOptions.CreateMountpoint":       {kind: mapped},
		at + "BindOptions.ReadOnlyNonRecursive":   {kind: mapped},
		at + "BindOptions.ReadOnlyForceRecursive": {kind: mapped},
		at + "TmpfsOptions.SizeBytes":             {kind: mapped},
		at + "TmpfsOptions.Mode":                  {kind: mapped},
		at + "TmpfsOptions.Options":               {kind: mapped},
		at + "VolumeOptions.NoCopy":               {kind: mapped},
		at + "VolumeOptions.Labels":               {kind: mapped},
		at + "VolumeOptions.Subpath":              {kind: mapped},
		at + "VolumeOptions.DriverConfig.Name":    {kind: mapped},
		at + "VolumeOptions.DriverConfig.Options": {kind: mapped},
		at + "ImageOptions.Subpath":               {kind: mapped},
		at + "ClusterOptions":                     {kind: refused},
	}
}

func networkingRules() ruleTable { return endpointRules("NetworkingConfig.EndpointsConfig{}.") }

// endpointRules says what becomes of the settings of an endpoint, below a path.
func endpointRules(at string) ruleTable {
	const operational = "operational data: docker ignores it in a request"
	return ruleTable{
		at + "IPAMConfig.IPv4Address":  {kind: mapped},
		at + "IPAMConfig.IPv6Address":  {kind: mapped},
		at + "IPAMConfig.LinkLocalIPs": {kind: refused},
		at + "Links":                   {kind: mapped},
		at + "Aliases":                 {kind: mapped},
		at + "GwPriority":              {kind: mapped},
		at + "MacAddress":              {kind: mapped},
		at + "DriverOpts":              {kind: mapped},
		at + "NetworkID":               {kind: harmless, why: operational},
		at + "EndpointID":              {kind: harmless, why: operational},
		at + "Gateway":                 {kind: harmless, why: operational},
		at + "IPAddress":               {kind: harmless, why: operational},
		at + "IPPrefixLen":             {kind: harmless, why: operational},
		at + "IPv6Gateway":             {kind: harmless, why: operational},
		at + "GlobalIPv6Address":       {kind: harmless, why: operational},
		at + "GlobalIPv6PrefixLen":     {kind: harmless, why: operational},
		at + "DNSNames":                {kind: harmless, why: operational},
	}
}

// execRules says what becomes of each field of POST /containers/{id}/exec.
func execRules() ruleTable {
	return ruleTable{
		"User":         {kind: mapped},
		"Privileged":   {kind: mapped},
		"Tty":          {kind: mapped},
		"ConsoleSize":  {kind: mapped},
		"AttachStdin":  {kind: mapped},
		"AttachStderr": {kind: mapped},
		"AttachStdout": {kind: mapped},
		"DetachKeys":   {kind: mapped},
		"Env":          {kind: mapped},
		"WorkingDir":   {kind: mapped},
		"Cmd":          {kind: mapped},
		"Detach":       {kind: harmless, why: "older clients repeat it in exec start, where it counts"},
	}
}
