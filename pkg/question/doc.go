// Package question owns the language in which somebody asks what containers do: a metric, a predicate and a decomposition,
// and the form of them that programs in the kernel can evaluate. It must not know how it is answered, and does no I/O.
//
// A predicate is made of comparisons, &&, ||, ! and parentheses:
//
//	comm=nginx && (errno=ENOENT || latency>5ms)
//
// = and != take a name, or where the field is text one that ends in *; label:NAME is a container's label. Values with spaces or
// operators are quoted ("a b", with \" and \\). A decomposition is names with commas between: container,syscall,latency.
package question
