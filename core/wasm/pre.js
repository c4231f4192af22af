// The program sees the environment of node; emscripten's own is made up.
Module['preRun'] = [function () { Object.assign(ENV, process.env); }];
