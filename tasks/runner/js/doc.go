// Package js runs tasks of kind js: the source of a JavaScript function.
//
// # The source
//
// The source is an expression or a program (ECMAScript 2015 and most of what
// came later, as goja has it; a script, not a module). When its value is a
// function of any form, that is called with the task's arguments, and what it
// returns is the result. When its value is anything else, that is the result,
// and arguments are an error. A Promise is awaited: jobs run until none is
// left, and a Promise that is not settled then never will be, which is an error.
//
// The result travels as JSON, written as JSON.stringify does it, whatever the
// script has made of JSON.stringify; undefined is null. A function, a symbol, a
// BigInt anywhere, a cycle, more than MaxDepth levels and more than
// tasks.MaxValueBytes are errors that say what was found and where.
//
// An exception, or a rejection that nobody handles, is an outcome of code
// Failed: its line has the place ("TypeError: x is not a function (at line
// 3:14)", columns counted in bytes), its stack goes to standard error. A source
// that does not compile and arguments that are not JSON are BadInput.
//
// # What a script has
//
// The language, and console: log, info and debug write to standard output,
// error, warn, trace and assert to standard error, one Write a call. Format
// directives (%s %d %i %f %j %o %O %c %%) and primitives come out as in Node;
// other values as JSON, with undefined, NaN and 1n inside of it where they are,
// and with [Function: f], [Circular], [Map] and the stacks of errors. At most
// tasks.MaxValueBytes of one value are shown, and 100 levels.
//
// There is no require, import, process, timer, fetch or file. None of these
// names is defined, so that typeof can be used to look for them; an exception
// because of one says that scagent's js has none of it. Math.random is seeded
// with the attempt's id and number.
//
// # What bounds a script
//
// Each attempt has a runtime of its own, from which nothing is kept. When its
// context ends, the script is interrupted at its next instruction, neither
// catch nor finally of it running. MaxCalls bounds how deep calls nest, a source
// how deep its brackets do. Nothing else can be bounded inside a process:
//
//   - Memory. 'x'.repeat(2**40) or an array that grows ends the agent.
//   - A single long step of the engine: a regular expression that backtracks,
//     Array(1e9).fill(), sorting a large array without a function, compiling a
//     source with one expression of ten thousand operators. The attempt holds
//     its slot until the step has ended.
//   - Recursion inside the engine: eval or JSON.parse of a million open
//     brackets, a Proxy of a Proxy a million times over, end the agent.
//   - A Write of its output that waits for the reader.
//
// An agent that runs strangers' scripts therefore evaluates them in a child
// process that may be killed. Everything is arranged for that: a Call and the
// Outcome of its Eval are all that goes in and comes out.
package js
