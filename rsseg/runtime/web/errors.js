"use strict";
// What may go wrong: the engine is busy for some seconds; it is gone, and may come back; it runs another
// network than before; it never works here.
class BusyError extends Error { constructor(seconds) { super("busy"); this.seconds = seconds; } }
class LostError extends Error {}
class ChangedError extends Error {}
class HopelessError extends Error {}
const $ = (id) => document.getElementById(id);
