// Package query is the expression language that picks workers.
//
// A Query is compiled once from text and then asked of many nodes:
//
//	data.gpu == "a100" and facts.cpus >= 8 and "tracker" not in role
//
// The names are name, role (a list), data (what the user says of a node), facts
// (what its agent says), slots and free. Below data and facts is whatever JSON
// the node has: data.gpu, data["my.key"], data.disks[0].size.
//
// # Three truth values
//
// Not every node has every field, and that is not an error. A comparison that
// touches a missing field is neither true nor false but Unknown, and so is one
// between values that cannot be compared, a division by zero and the like.
// and, or and not work on three values as Kleene's strong logic has it:
//
//	false and unknown  is false      true  or unknown  is true
//	true  and unknown  is unknown    false or unknown  is unknown
//	not unknown        is unknown
//
// Only true matches. So neither data.gpu == "a100" nor data.gpu != "a100" picks
// a node without data.gpu; has(data.gpu) asks for the field and is never unknown,
// and data.gpu ?? "none" gives a missing field a value. While the document of a
// node has not been fetched (Node.Known is false), all that depends on data or
// facts is unknown, has and ?? too.
//
// JSON's null is a value: has(data.x) and data.x == nil are both true of it. A
// field of something that has no fields, or an index out of range, is missing.
//
// # Operators and functions
//
// The grammar is that of expr-lang/expr, of which this is a part:
//
//	== != < <= > >=  in  not in  contains  startsWith  endsWith  matches
//	and && or || not !  a ? b : c  if a { b } else { c }  ??  + - * / % **
//	[1, 2]  x in data.list  "key" in data.object  1 < data.n < 5  data.list | len()
//	any(data.disks, .size > 100)  all  none  one  count  filter  map  sum
//	has len min max abs lower upper trim int float
//
// Values of different types are not equal; ordering them is unknown. Numbers are
// compared exactly, integers of a document to 64 bits if it was decoded with
// json.Decoder.UseNumber, else to 53; larger ones are floating point. Arithmetic
// that leaves the range of its numbers is unknown. In filter and count an item of
// which the condition is unknown is left out, as a node is from a query. The
// patterns of matches are those of package regexp.
//
// What expr has beyond that (variables, maps, ranges, slices, dates, the other
// functions) is refused when the query is compiled. So is what can never be true
// for its types, as name > 3, and not data.a == 1, which expr takes to be
// (not data.a) == 1.
//
// # Limits
//
// A source has at most MaxSourceBytes, MaxTerms terms and MaxDepth levels. The
// work on one node is counted, and a query that takes more than about 100 ms of
// it is unknown, whatever the query and the document; see maxSteps. An ordinary
// one takes well below a microsecond and does not allocate.
//
// # How it works
//
// The source is parsed by expr (parse.go), and its tree compiled into one Go
// function per term (compile.go, operators.go, builtins.go, path.go), which
// return a value that is either a JSON value or unknown together with its cause
// (value.go). Explain and Why turn causes into sentences (explain.go).
package query
