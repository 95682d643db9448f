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
// error, warn, trace and assert to standard error, one Write a call (in a child
// one for each 32 KiB). Format directives (%s %d %i %f %j %o %O %c %%) and
// primitives come out as in Node; other values as JSON, with undefined, NaN and 1n
// inside of it where they are, and with [Function: f], [Circular], [Map] and the
// stacks of errors. At most tasks.MaxValueBytes of one value are shown, and 100
// levels.
//
// There is no require, import, process, timer, fetch or file. None of these
// names is defined, so that typeof can be used to look for them; an exception
// because of one says that scagent's js has none of it. Math.random is seeded
// with the attempt's id and number.
//
// # What bounds a script
//
// Each attempt has a runtime of its own, from which nothing is kept but compiled
// programs. When its context ends, the script is interrupted at its next
// instruction, neither catch nor finally of it running. MaxCalls bounds how deep
// calls nest, a source how deep its brackets do. The engine can bound nothing else:
//
//   - Memory: 'x'.repeat(2**40), or an array that grows.
//   - A single long step of the engine: a regular expression that backtracks,
//     Array(1e9).fill(), sorting a large array without a function, compiling a
//     source with one expression of ten thousand operators.
//   - Recursion inside the engine: JSON.parse of a million open brackets, a Proxy
//     that is its own prototype.
//
// So scripts are evaluated in child processes, see package child. There each of
// these ends in an outcome of one line, and the agent lives: memory above
// Config.MemoryBytes and a full stack are Failed, and an engine that does not
// answer within a second of the end of its context is killed. A call to a child
// that is there takes some 25 µs more than one inside the process. Several slots
// can take Config.MemoryBytes each; a machine that has less ends the children
// first.
//
// # Inside the process
//
// A program is its own child when it calls agent.RunHelper first thing in its main,
// as scagent does. Where a program does not, or Config.InProcess is set, scripts
// are evaluated inside of it: everything in this package holds but for the list
// above. Such a script takes the program's memory, and a full stack ends the
// program; a long step holds the attempt's slot until it has ended.
package js
